// The Internet checksum (RFC 1071) and its incremental update (RFC 1624, equation 3).
#pragma once

#include <cstdint>
#include <span>

namespace flannelette {

// Ones' complement sum of 16-bit big-endian words, folded to 16 bits, not inverted. An odd last
// byte counts as the high byte of a word padded with zero. `initial` continues an earlier sum.
uint16_t ones_complement_sum(std::span<const uint8_t> bytes, uint32_t initial = 0);

// The checksum to store over bytes whose checksum field is zero. Over bytes that include a right
// checksum the result is 0.
inline uint16_t internet_checksum(std::span<const uint8_t> bytes) {
  return static_cast<uint16_t>(~ones_complement_sum(bytes));
}

// The checksum after one 16-bit word of the covered bytes changed from `before` to `after`:
// HC' = ~(~HC + ~m + m') (RFC 1624). A right checksum stays right, a wrong one stays wrong.
uint16_t checksum_update(uint16_t checksum, uint16_t before, uint16_t after);

}  // namespace flannelette
