// The kernel's own IPv4 routes to other hosts: listed, put and taken away.
#pragma once

#include <cstdint>
#include <vector>

#include "core/ipv4.h"
#include "core/result.h"

namespace flannelette {

// One route, addresses in host order.
struct KernelRoute {
  Subnet destination;
  uint32_t gateway = 0;  // 0: on the link, or several next hops
  int ifindex = 0;       // 0: none (blackhole and the like), or several next hops
  uint32_t metric = 0;   // of several routes to one destination the least counts
  uint8_t type = 0;      // RTN_UNICAST, RTN_BLACKHOLE ...
  uint8_t protocol = 0;  // who made it: RTPROT_KERNEL, RTPROT_BOOT ... (rtnetlink(7))
  uint32_t table = 0;    // RT_TABLE_MAIN, RT_TABLE_LOCAL, one of a rule's ...
};

// Those of the main table. EAGAIN when they changed at each of several attempts to list them.
// Routes with a type of service of their own are left out.
Result<std::vector<KernelRoute>> list_kernel_routes();

// Those of every table to the subnet or a part of it; of several next hops the first. EAGAIN as
// above.
Result<std::vector<KernelRoute>> list_kernel_routes_within(Subnet subnet);

}  // namespace flannelette
