// Which way the kernel would send: `ip route get` for many addresses at once.
#pragma once

#include <cstdint>
#include <vector>

#include "core/result.h"

namespace flannelette {

struct Way {
  uint32_t ifindex = 0;  // 0: no route (none at all, unreachable, prohibit, blackhole)
  // That has the route: the main one also for the local table's as long as no policy rule was ever
  // added, and before Linux 4.4 always.
  uint32_t table = 0;

  bool operator==(const Way&) const = default;
};

// The way of a packet from `source` to each of `destinations`, in their order: by lo for an address
// of this host's own. Policy rules count. A `source` of 0 leaves the choice to the kernel, and so
// does one that this host does not have (any more).
Result<std::vector<Way>> ways_to(const std::vector<uint32_t>& destinations, uint32_t source);

}  // namespace flannelette
