// Which way the kernel would send: `ip route get` for many addresses at once.
#pragma once

#include <cstdint>
#include <vector>

#include "core/result.h"

namespace flannelette {

// The index of the interface by which a packet from `source` leaves for each of `destinations`, in
// their order: that of lo for an address of this host's own, 0 where there is no route (none at
// all, unreachable, prohibit, blackhole). Policy rules count. A `source` of 0 leaves the choice to
// the kernel, and so does one that this host does not have (any more).
Result<std::vector<uint32_t>> outgoing_interfaces(const std::vector<uint32_t>& destinations,
                                                  uint32_t source);

}  // namespace flannelette
