#include "core/checksum.h"

#include <bit>
#include <cstring>

namespace flannelette {

namespace {

// 16 bytes as two lanes of 64 bits, a vector of GCC and clang: SSE2 on every x86-64, NEON on every
// aarch64, plain words elsewhere. Loaded and stored by memcpy, so at any alignment.
typedef uint64_t Lanes __attribute__((vector_size(16)));

constexpr size_t kLanes = sizeof(Lanes);
// Independent accumulators hide the latency of the additions.
constexpr size_t kBlock = 4 * kLanes;

// Loads the T at `at` and, when kCopy, stores it at the same place of `to`.
template <typename T, bool kCopy>
T take(const uint8_t* from, [[maybe_unused]] uint8_t* to, size_t at) {
  T value;
  std::memcpy(&value, from + at, sizeof(T));
  if constexpr (kCopy) std::memcpy(to + at, &value, sizeof(T));
  return value;
}

// The halves of each lane, added: at most 2^33, so that 2^31 of them fit an accumulator.
Lanes halves(Lanes value) { return (value & 0xffffffffU) + (value >> 32); }

uint64_t halves(uint64_t value) { return (value & 0xffffffffU) + (value >> 32); }

// The sum of native words of the bytes, not folded. With kCopy they are also written to `to`.
template <bool kCopy>
uint64_t sum_native(const uint8_t* from, size_t size, uint8_t* to) {
  uint64_t sum = 0;
  size_t at = 0;
  if (size >= kBlock) {
    Lanes a{}, b{}, c{}, d{};
    for (; at + kBlock <= size; at += kBlock) {
      a += halves(take<Lanes, kCopy>(from, to, at));
      b += halves(take<Lanes, kCopy>(from, to, at + kLanes));
      c += halves(take<Lanes, kCopy>(from, to, at + 2 * kLanes));
      d += halves(take<Lanes, kCopy>(from, to, at + 3 * kLanes));
    }
    const Lanes total = (a + b) + (c + d);
    sum = halves(total[0]) + halves(total[1]);
  }
  for (; at + 8 <= size; at += 8) sum += halves(take<uint64_t, kCopy>(from, to, at));
  if ((size & 4) != 0) {
    sum += take<uint32_t, kCopy>(from, to, at);
    at += 4;
  }
  if ((size & 2) != 0) {
    sum += take<uint16_t, kCopy>(from, to, at);
    at += 2;
  }
  if ((size & 1) != 0) {
    // The first byte of a word in memory: the high one once the sum is in big-endian order.
    const uint64_t last = take<uint8_t, kCopy>(from, to, at);
    sum += std::endian::native == std::endian::little ? last : last << 8;
  }
  return sum;
}

uint16_t finish(uint64_t native_sum, uint32_t initial) {
  const uint64_t half = halves(halves(native_sum));  // at most 2^32 - 1
  const uint16_t native = fold_sum(static_cast<uint32_t>(half));
  const uint16_t sum = std::endian::native == std::endian::little
                           ? static_cast<uint16_t>(native << 8 | native >> 8)
                           : native;
  return fold_sum(uint32_t{sum} + fold_sum(initial));
}

}  // namespace

uint16_t ones_complement_sum(std::span<const uint8_t> bytes, uint32_t initial) {
  return finish(sum_native<false>(bytes.data(), bytes.size(), nullptr), initial);
}

uint16_t copy_and_sum(std::span<const uint8_t> from, uint8_t* to, uint32_t initial) {
  return finish(sum_native<true>(from.data(), from.size(), to), initial);
}

uint16_t checksum_update(uint16_t checksum, uint16_t before, uint16_t after) {
  uint32_t sum = static_cast<uint16_t>(~checksum);
  sum += static_cast<uint16_t>(~before);
  sum += after;
  return static_cast<uint16_t>(~fold_sum(sum));
}

}  // namespace flannelette
