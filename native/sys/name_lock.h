// Names that one process of a network namespace has at a time.
#pragma once

#include <string>

#include "core/result.h"
#include "sys/owned_fd.h"

namespace flannelette {

// Takes `name` (1 to 107 bytes) until the descriptor is closed or the process ends, however it
// ends: an abstract unix socket (unix(7)), which belongs to the network namespace. EADDRINUSE:
// another process has it.
Result<OwnedFd> hold_name(const std::string& name);

}  // namespace flannelette
