// MAC addresses: bytes as the kernel has them, 48 bits of a number as JavaScript gets them.
#pragma once

#include <array>
#include <cstdint>

namespace flannelette {

using MacAddress = std::array<uint8_t, 6>;

inline constexpr uint64_t kMacMax = 0xffffffffffff;

inline MacAddress mac_of(uint64_t number) {
  MacAddress out{};
  for (auto byte = out.rbegin(); byte != out.rend(); ++byte, number >>= 8)
    *byte = static_cast<uint8_t>(number);
  return out;
}

inline uint64_t number_of_mac(const MacAddress& mac) {
  uint64_t out = 0;
  for (const uint8_t byte : mac) out = out << 8 | byte;
  return out;
}

}  // namespace flannelette
