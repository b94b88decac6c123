#include "core/checksum.h"

#include "core/bytes.h"

namespace flannelette {

namespace {

uint16_t fold(uint32_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

}  // namespace

uint16_t ones_complement_sum(std::span<const uint8_t> bytes, uint32_t initial) {
  // 65,535 bytes are at most 32,768 words of 0xffff: the sum stays below 2^32.
  uint32_t sum = fold(initial);
  size_t i = 0;
  for (; i + 1 < bytes.size(); i += 2) {
    sum += load_be16(&bytes[i]);
    if (sum >= 0xffff0000U) sum = fold(sum);
  }
  if (i < bytes.size()) sum += uint32_t{bytes[i]} << 8;
  return fold(sum);
}

uint16_t checksum_update(uint16_t checksum, uint16_t before, uint16_t after) {
  uint32_t sum = static_cast<uint16_t>(~checksum);
  sum += static_cast<uint16_t>(~before);
  sum += after;
  return static_cast<uint16_t>(~fold(sum));
}

}  // namespace flannelette
