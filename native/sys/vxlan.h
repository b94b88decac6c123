// The kernel's VXLAN device as flannel uses it, and what it needs for each other host: the host's
// own overlay address is a neighbour with a MAC address, and that MAC address is found at the host.
//
//   route SUBNET via SUBNET.0 onlink -> neighbour SUBNET.0 = MAC -> forwarding entry MAC -> host
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"
#include "sys/mac_address.h"

namespace flannelette {

inline constexpr uint32_t kVniMax = 0xffffff;

struct VxlanSpec {
  std::string name;
  uint32_t vni = 1;       // 1 to kVniMax
  uint16_t port = 8472;   // UDP, of every host
  uint32_t local = 0;     // outer address of this host
  int underlay = 0;       // index of the external interface
  bool gbp = false;       // group policy extension
  bool learning = false;  // from received packets
  MacAddress mac{};
  uint32_t mtu = 1450;   // bytes
  uint32_t address = 0;  // set with prefix length 32
};

// Makes the device, or goes on with one of that name that is like it, and sets it up: its index.
// One that is not like it goes. EEXIST: another device has this VNI on this port; EADDRINUSE: a
// program has the port; EOPNOTSUPP: the kernel has no vxlan.
Result<int> make_vxlan(const VxlanSpec& spec);
Status delete_device(int ifindex);

// Another host's tunnel end.
struct Vtep {
  uint32_t address = 0;  // in the overlay
  MacAddress mac{};
  uint32_t host = 0;
};

// Puts both entries, permanent, in place of others for the address and the MAC address.
Status put_vtep(int ifindex, const Vtep& vtep);
// Takes both away, if they are there.
Status delete_vtep(int ifindex, const Vtep& vtep);
// Those of which both entries are there and permanent.
Result<std::vector<Vtep>> list_vteps(int ifindex);

}  // namespace flannelette
