// Calls that a signal may interrupt.
#pragma once

#include <cerrno>

namespace flannelette {

// Makes the call again while it fails with EINTR, a few times: whatever interrupts a call for ever
// must not keep the caller.
template <typename Call>
auto retry_interrupted(Call call) {
  constexpr int kTriesMax = 8;
  auto result = call();
  for (int tries = 1; result < 0 && errno == EINTR && tries < kTriesMax; ++tries) result = call();
  return result;
}

}  // namespace flannelette
