// The network interfaces of this thread's network namespace.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"

namespace flannelette {

struct InterfaceAddress {
  uint32_t address = 0;  // host order
  uint32_t prefix = 0;
};

struct Interface {
  std::string name;
  uint32_t index = 0;
  uint32_t mtu = 0;  // bytes
  bool up = false;
  bool loopback = false;
  std::vector<InterfaceAddress> addresses;
};

Result<std::vector<Interface>> list_interfaces();

}  // namespace flannelette
