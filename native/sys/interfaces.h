// The network interfaces of this thread's network namespace, and the way to other hosts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"

namespace flannelette {

struct InterfaceAddress {
  uint32_t address = 0;  // host order; of a point-to-point link this end's
  uint32_t prefix = 0;
  bool permanent = true;    // not leased for a time, as by DHCP
  bool deprecated = false;  // not to be used for anything new (preferred lifetime 0)
};

struct Interface {
  std::string name;
  uint32_t index = 0;
  uint32_t mtu = 0;  // bytes
  bool up = false;
  bool loopback = false;
  uint64_t mac = 0;                         // 48 bits; 0: it has none
  std::vector<InterfaceAddress> addresses;  // as the kernel lists them
};

// EAGAIN when they changed at each of several attempts to list them.
Result<std::vector<Interface>> list_interfaces();

}  // namespace flannelette
