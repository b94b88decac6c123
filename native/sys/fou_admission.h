// What FOU lets in, checked by nf_tables as the daemon checks it in user space: the sender of a
// datagram holds the lease of the packet's source, and the packet is for this host's subnet.
//
//   INPUT: UDP to the end -> mark = outer source -> (ipip) -> PREROUTING of the device:
//     no packet for the own subnet: drop;  mark . source's subnet in the set: mark = 0, accept;
//     drop
//
// The mark goes with the packet through the tunnel, also where the kernel takes a train of
// datagrams apart, so it is the packet itself that is checked. What came without the port, as plain
// ipip, has no host's mark. The table is not the process's: the check stays when the process is
// killed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/forwarding_table.h"
#include "core/ipv4.h"
#include "core/result.h"
#include "sys/fou.h"

namespace flannelette {

struct FouAdmission {
  FouEnd end;
  int ifindex = 0;  // of the device; another one of the same name is another device
  Subnet own;
  std::span<const Route> hosts;
};

// Makes the table anew, in one step. EOPNOTSUPP or EPROTONOSUPPORT: no nf_tables; ENOENT: it lacks
// one of payload, bitwise, meta, lookup, hash sets or verdicts.
Status put_fou_admission(const FouAdmission& admission);
// The table is there with all its rules and elements, and no others.
Result<bool> has_fou_admission(const FouAdmission& admission);
// Takes the table away, if it is there.
Status remove_fou_admission(const FouEnd& end);

}  // namespace flannelette
