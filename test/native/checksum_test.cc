// The Internet checksum against a naive reference, and its incremental update against a full
// recomputation.
#include "core/checksum.h"

#include <doctest/doctest.h>

#include <random>

#include "packets.h"

namespace flannelette::test {

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
