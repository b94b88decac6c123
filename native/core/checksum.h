// The Internet checksum (RFC 1071) and its incremental update (RFC 1624, equation 3).
//
// A *sum* is the ones' complement sum of 16-bit big-endian words, folded to 16 bits and not
// inverted; a *checksum* is an inverted sum. Two facts make it fast: the sum of byte-swapped words
// is the byte-swapped sum, so that words are summed as the processor reads them, and words of any
// width may be added as long as the carries are kept and folded in at the end, so that 16 bytes are
// taken at a time.
//
// Sums compose: sum(AB) == sum(B, sum(A)) when A has an even number of bytes. An odd last byte
// counts as the high byte of a word padded with zero, hence only the last piece may be odd.
//
// A sum is 0 only when all that was summed is 0; everything else that is 0 modulo 65,535 gives
// 0xffff. So two ways to sum the same bytes give the same 16 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace flannelette {

// The sum of `bytes`, at any alignment. `initial` continues an earlier sum, folded or not.
uint16_t ones_complement_sum(std::span<const uint8_t> bytes, uint32_t initial = 0);

// Copies `from` to `to`, which has room for it and does not overlap it, and returns what
// ones_complement_sum(from, initial) would: one pass over memory instead of two.
uint16_t copy_and_sum(std::span<const uint8_t> from, uint8_t* to, uint32_t initial = 0);

// The checksum to store over bytes whose checksum field is zero. Over bytes that include a right
// checksum the result is 0.
inline uint16_t internet_checksum(std::span<const uint8_t> bytes) {
  return static_cast<uint16_t>(~ones_complement_sum(bytes));
}

// The sum of the pseudo header in front of TCP and UDP (RFC 9293, RFC 768), not folded: to be the
// `initial` of the sum over the `length` bytes of transport header and payload. Host order.
inline uint32_t pseudo_header_sum(uint32_t source, uint32_t destination, uint8_t protocol,
                                  uint16_t length) {
  return (source >> 16) + (source & 0xffff) + (destination >> 16) + (destination & 0xffff) +
         protocol + length;
}

// A sum of sums or of 16-bit words, folded to 16 bits.
inline uint16_t fold_sum(uint32_t sum) {
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum + (sum >> 16));
}

// The checksum after one 16-bit word of the covered bytes changed from `before` to `after`:
// HC' = ~(~HC + ~m + m') (RFC 1624). A right checksum stays right, a wrong one stays wrong.
uint16_t checksum_update(uint16_t checksum, uint16_t before, uint16_t after);

// ones_complement_sum word by word, as RFC 1071 writes it: what the fast one is tested and measured
// against.
inline uint16_t ones_complement_sum_reference(std::span<const uint8_t> bytes,
                                              uint32_t initial = 0) {
  uint32_t sum = fold_sum(initial);
  for (size_t i = 0; i < bytes.size(); i += 2) {
    sum += uint32_t{bytes[i]} << 8;
    if (i + 1 < bytes.size()) sum += bytes[i + 1];
    if (sum >= 0xffff0000U) sum = fold_sum(sum);
  }
  return fold_sum(sum);
}

}  // namespace flannelette
