// The Internet checksum against a naive reference, and its incremental update against a full
// recomputation.
#include "core/checksum.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <random>

#include "packets.h"

namespace flannelette::test {

namespace {

// Bytes at a chosen distance from an aligned address, without a byte of room behind them.
class Placed {
 public:
  Placed(size_t alignment, size_t size)
      : memory_(new uint8_t[alignment + size]), alignment_(alignment), size_(size) {}
  std::span<uint8_t> bytes() const { return {memory_.get() + alignment_, size_}; }

 private:
  std::unique_ptr<uint8_t[]> memory_;
  size_t alignment_;
  size_t size_;
};

// How many of the three ways to the same sum disagree with the reference; the copy must be exact.
int differences(std::span<const uint8_t> bytes, uint32_t initial, size_t alignment_of_copy) {
  const uint16_t expected = ones_complement_sum_reference(bytes, initial);
  const Placed copy(alignment_of_copy, bytes.size());
  int out = 0;
  if (ones_complement_sum(bytes, initial) != expected) ++out;
  if (copy_and_sum(bytes, copy.bytes().data(), initial) != expected) ++out;
  if (!std::equal(bytes.begin(), bytes.end(), copy.bytes().begin())) ++out;
  if (initial == 0 && static_cast<uint16_t>(~expected) != naive_checksum(bytes)) ++out;
  return out;
}

void fill(std::span<uint8_t> bytes, std::mt19937& random) {
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
}

}  // namespace

TEST_CASE("the sum of RFC 1071's example") {
  const Bytes example = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  CHECK(ones_complement_sum(example) == 0xddf2);
  CHECK(internet_checksum(example) == 0x220d);
}

TEST_CASE("checksum of nothing, of one byte, of an odd number of bytes") {
  CHECK(internet_checksum({}) == 0xffff);
  CHECK(internet_checksum(Bytes{0xab}) == 0x54ff);
  CHECK(internet_checksum(Bytes{0x12, 0x34, 0x56}) == naive_checksum(Bytes{0x12, 0x34, 0x56, 0}));
}

TEST_CASE("checksum equals the naive one on random bytes of every length") {
  std::mt19937 random(1);
  Bytes bytes;
  for (size_t length = 0; length < 700; ++length) {
    bytes.resize(length);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    REQUIRE(internet_checksum(bytes) == naive_checksum(bytes));
  }
}

TEST_CASE("checksum of the greatest packets: all ones, lengths around 65,535 and beyond") {
  for (const size_t length : {65534, 65535, 65536, 65537, 200001}) {
    const Bytes ones(length, 0xff);
    REQUIRE(internet_checksum(ones) == naive_checksum(ones));
  }
}

TEST_CASE("a sum goes on from an earlier one at an even boundary") {
  std::mt19937 random(2);
  Bytes bytes(301);
  for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
  const std::span<const uint8_t> all(bytes);
  for (size_t cut = 0; cut <= bytes.size(); cut += 2)
    REQUIRE(ones_complement_sum(all.subspan(cut), ones_complement_sum(all.first(cut))) ==
            ones_complement_sum(all));
  // An initial sum may be a wide one.
  CHECK(ones_complement_sum({}, 0xffffffffU) == 0xffff);
  CHECK(ones_complement_sum(Bytes{0, 2}, 0x0001ffffU) == 3);
}

TEST_CASE("the fast sum and the copying one equal the reference for every length and alignment") {
  std::mt19937 random(4);
  int wrong = 0;
  for (size_t alignment = 0; alignment < 8; ++alignment) {
    for (size_t length = 0; length <= 300; ++length) {
      const Placed place(alignment, length);
      fill(place.bytes(), random);
      wrong += differences(place.bytes(), 0, length % 8);
      wrong += differences(place.bytes(), static_cast<uint32_t>(random()), 7 - alignment);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("the fast sum and the copying one equal the reference for random lengths up to 65,535") {
  std::mt19937 random(5);
  int wrong = 0;
  for (int i = 0; i < 300; ++i) {
    const Placed place(random() % 8, random() % 65536);
    fill(place.bytes(), random);
    wrong +=
        differences(place.bytes(), i % 2 == 0 ? 0 : static_cast<uint32_t>(random()), random() % 8);
  }
  CHECK(wrong == 0);
}

TEST_CASE("sums of only ones and only zeros, with the initial values where carries meet") {
  int wrong = 0;
  for (const size_t length : {0, 1, 2, 3, 7, 8, 63, 64, 65, 127, 1447, 1448, 65534, 65535}) {
    for (const uint8_t value : {0x00, 0xff}) {
      const Bytes bytes(length, value);
      for (const uint32_t initial :
           {0U, 1U, 0xfffeU, 0xffffU, 0x10000U, 0x1fffeU, 0x1ffffU, 0xffff0000U, 0xffffffffU})
        wrong += differences(bytes, initial, length % 8);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("sums of pieces make the sum of the whole when all but the last are even") {
  std::mt19937 random(6);
  for (int i = 0; i < 200; ++i) {
    Bytes bytes(1 + random() % 3000);
    fill(bytes, random);
    const std::span<const uint8_t> all(bytes);
    Bytes copy(bytes.size());
    uint16_t sum = 0;
    for (size_t at = 0; at < bytes.size();) {
      const size_t piece = std::min<size_t>(bytes.size() - at, 2 + 2 * (random() % 400));
      sum = copy_and_sum(all.subspan(at, piece), copy.data() + at, sum);
      at += piece;
    }
    REQUIRE(sum == ones_complement_sum_reference(bytes));
    REQUIRE(copy == bytes);
  }
}

TEST_CASE("the pseudo header's sum is that of its twelve bytes") {
  std::mt19937 random(7);
  for (int i = 0; i < 1000; ++i) {
    const auto source = static_cast<uint32_t>(i == 0 ? 0xffffffff : random());
    const auto destination = static_cast<uint32_t>(i == 0 ? 0xffffffff : random());
    const auto protocol = static_cast<uint8_t>(i == 0 ? 0xff : random());
    const auto length = static_cast<uint16_t>(i == 0 ? 0xffff : random());
    Bytes pseudo(12, 0);
    put_long(pseudo, 0, source);
    put_long(pseudo, 4, destination);
    pseudo[9] = protocol;
    put_word(pseudo, 10, length);
    REQUIRE(fold_sum(pseudo_header_sum(source, destination, protocol, length)) ==
            ones_complement_sum_reference(pseudo));
  }
}

TEST_CASE(
    "an incremental update equals a full recomputation for every value of every header word") {
  const Bytes original = make_packet({.ttl = 64, .id = 0xbeef, .payload = {}});
  for (const size_t at : {size_t{0}, size_t{2}, size_t{4}, size_t{6}, size_t{8}, size_t{12},
                          size_t{14}, size_t{16}, size_t{18}}) {
    Bytes header = original;
    const uint16_t before = word_at(header, at);
    size_t differences = 0;
    for (uint32_t after = 0; after <= 0xffff; ++after) {
      put_word(header, at, after);
      put_word(header, 10, 0);
      const uint16_t full = naive_checksum(header);
      if (checksum_update(word_at(original, 10), before, static_cast<uint16_t>(after)) != full)
        ++differences;
    }
    CAPTURE(at);
    CHECK(differences == 0);
  }
}

TEST_CASE("an incremental update from every value of the TTL and protocol word, TTL one less") {
  Bytes header = make_packet({});
  size_t differences = 0;
  for (uint32_t before = 0x0100; before <= 0xffff; ++before) {
    put_word(header, 8, before);
    fix_checksum(header);
    const uint16_t checksum = word_at(header, 10);
    const auto after = static_cast<uint16_t>(before - 0x0100);
    put_word(header, 8, after);
    fix_checksum(header);
    if (checksum_update(checksum, static_cast<uint16_t>(before), after) != word_at(header, 10))
      ++differences;
  }
  CHECK(differences == 0);
}

TEST_CASE("a wrong checksum stays wrong and a right one right, for all 65,536 checksums") {
  for (const uint16_t id : {0, 1, 0x7fff, 0xfffe, 0xffff}) {
    Bytes header = make_packet({.id = id});
    const uint16_t before = word_at(header, 8);
    const auto after = static_cast<uint16_t>(before - 0x0100);
    size_t right = 0;
    size_t changed = 0;
    for (uint32_t checksum = 0; checksum <= 0xffff; ++checksum) {
      put_word(header, 8, before);
      put_word(header, 10, checksum);
      const bool was_right = naive_checksum(header) == 0;
      put_word(header, 8, after);
      put_word(header, 10, checksum_update(static_cast<uint16_t>(checksum), before, after));
      const bool is_right = naive_checksum(header) == 0;
      if (was_right) ++right;
      if (was_right != is_right) ++changed;
    }
    CHECK(right >= 1);
    CHECK(changed == 0);
  }
}

TEST_CASE("updating there and back gives an equivalent checksum") {
  std::mt19937 random(3);
  for (int i = 0; i < 200000; ++i) {
    Bytes words = {static_cast<uint8_t>(random() | 1), static_cast<uint8_t>(random()),
                   static_cast<uint8_t>(random()), static_cast<uint8_t>(random())};
    const uint16_t checksum = naive_checksum(words);
    const uint16_t before = word_at(words, 2);
    const auto after = static_cast<uint16_t>(random());
    REQUIRE(checksum_update(checksum_update(checksum, before, after), after, before) == checksum);
  }
}

}  // namespace flannelette::test
