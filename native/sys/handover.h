// Descriptors that travel from one process to another in a datagram (SCM_RIGHTS, unix(7)): what a
// daemon hands to its successor, and to the descriptor store of a service manager.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"
#include "sys/owned_fd.h"

namespace flannelette {

// As many as one datagram may carry (SCM_MAX_FD, Linux 2.6.38).
inline constexpr size_t kHandoverMax = 253;

struct Handover {
  std::string message;
  std::vector<OwnedFd> descriptors;
};

// A datagram socket of mode 0600 at `path`, of at most 107 bytes; a socket that is there already is
// replaced. The caller unlinks it.
Result<OwnedFd> open_handover(const std::string& path);

// Has a descriptor from elsewhere not wait, and closed by execve, as all of ours: 0 or an errno.
int keep_private(int fd);

// The datagram that waits there; EAGAIN when none does, EMSGSIZE when it is longer than 4 KiB or
// carries more descriptors than kHandoverMax. They are closed by execve.
Result<Handover> receive_handover(int fd);

}  // namespace flannelette
