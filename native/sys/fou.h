// Foo over UDP: the kernel's own tunnel on udp's wire (Linux 3.18). One ipip device for all hosts,
// the outer address of each is the gateway of its route:
//
//   route SUBNET via HOST dev flannel0 onlink -> ipip device -> UDP port -> HOST
//   UDP port of FOU -> ipip device -> routed as received by flannel0
//
// A port of FOU has no name and outlives its maker, like the device. Whose they are is told by the
// device's alias, which has the port's address and number.
#pragma once

#include <cstdint>
#include <string>

#include "core/ipv4.h"
#include "core/result.h"

namespace flannelette {

// Where other hosts send to; of one network namespace one tunnel has it.
struct FouEnd {
  uint32_t local = 0;  // outer address of this host; 0: all of them
  uint16_t port = 8285;
};

struct FouDevice {
  FouEnd end;
  std::string name;             // `%d`: the first free number
  uint16_t source_port = 8285;  // 0: by the flow
};

// Makes the device, which is down: its index. EADDRINUSE: a program has the port; EINVAL: the
// kernel lacks CONFIG_NET_FOU_IP_TUNNELS or the module fou is not loaded; EOPNOTSUPP: it has no
// ipip.
Result<int> make_fou_device(const FouDevice& device);
// Gives it address (prefix length 32) and MTU (bytes), finishes checksums in it and sets it up.
// False when nothing of that was missing.
Result<bool> restore_fou_device(int ifindex, uint32_t address, uint32_t mtu);
// The device made for that end, whatever it is called now; 0: none.
Result<int> find_fou_device(const FouEnd& end);

// Has the kernel take datagrams to the end for IPv4 packets. False when it does so already.
// ENOENT: no module fou; EADDRINUSE: a program or another tunnel has the port; EPERM.
Result<bool> open_fou_port(const FouEnd& end);

// An `unreachable` route of the overlay, behind those of the hosts' subnets. False when it was
// there.
Result<bool> put_fou_overlay(Subnet overlay);

// Takes device, port and overlay's route away, what of them there is.
Status remove_fou(const FouEnd& end);

// What passed the device since it was made.
struct FouStatistics {
  uint64_t received_packets = 0;
  uint64_t received_bytes = 0;
  uint64_t sent_packets = 0;
  uint64_t sent_bytes = 0;
};
Result<FouStatistics> read_fou_statistics(int ifindex);

}  // namespace flannelette
