// The bounds-checked IPv4 view: each fault at its boundary, and what a view shows.
#include "core/ipv4.h"

#include <doctest/doctest.h>

#include <memory>

#include "packets.h"

namespace flannelette::test {

namespace {

// Parses an exact heap copy, so that AddressSanitizer sees a read past the bytes received.
PacketFault fault_of(const Bytes& bytes) {
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[bytes.size()]);
  for (size_t i = 0; i < bytes.size(); ++i) copy[i] = bytes[i];
  Ipv4Packet packet;
  return Ipv4Packet::parse({copy.get(), bytes.size()}, packet);
}

}  // namespace

TEST_CASE("0 to 19 bytes are short, 20 are a packet") {
  const Bytes whole = make_packet({});
  REQUIRE(whole.size() == 20);
  for (size_t length = 0; length < 20; ++length) {
    CAPTURE(length);
    CHECK(fault_of(Bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(length))) ==
          PacketFault::kShort);
  }
  CHECK(fault_of(whole) == PacketFault::kNone);
}

TEST_CASE("every version but 4 is refused") {
  for (uint32_t version = 0; version < 16; ++version) {
    Bytes bytes = make_packet({.payload = Bytes(20)});
    bytes[0] = static_cast<uint8_t>(version << 4 | 5);
    fix_checksum(bytes);
    CAPTURE(version);
    CHECK(fault_of(bytes) == (version == 4 ? PacketFault::kNone : PacketFault::kBadVersion));
  }
}

TEST_CASE("a header length below 5 or beyond the bytes is refused") {
  for (uint32_t words = 0; words < 16; ++words) {
    for (const size_t length : {20, 24, 40, 56, 59, 60, 64}) {
      Bytes bytes(length, 0);
      bytes[0] = static_cast<uint8_t>(0x40 | words);
      put_word(bytes, 2, static_cast<uint32_t>(length));
      const bool fits = words >= 5 && size_t{words} * 4 <= length;
      if (fits) fix_checksum(bytes);
      CAPTURE(words);
      CAPTURE(length);
      CHECK(fault_of(bytes) == (fits ? PacketFault::kNone : PacketFault::kBadHeader));
    }
  }
}

TEST_CASE("a total length below the header or above the bytes is refused") {
  for (const size_t options : {0, 4, 40}) {
    const size_t header = 20 + options;
    const Bytes packet = make_packet({.options = options, .payload = Bytes(10, 7)});
    for (uint32_t total = 0; total <= packet.size() + 3; ++total) {
      Bytes bytes = packet;
      put_word(bytes, 2, total);
      fix_checksum(bytes);
      const bool right = total >= header && total <= bytes.size();
      CAPTURE(total);
      CHECK(fault_of(bytes) == (right ? PacketFault::kNone : PacketFault::kBadLength));
    }
    Bytes bytes = packet;
    put_word(bytes, 2, 65535);
    fix_checksum(bytes);
    CHECK(fault_of(bytes) == PacketFault::kBadLength);
  }
}

TEST_CASE("any single wrong bit of the header is a fault or another packet, never unnoticed") {
  const Bytes packet = make_packet({.options = 8, .payload = Bytes(12, 0x55)});
  for (size_t bit = 0; bit < 28 * 8; ++bit) {
    Bytes bytes = packet;
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] ^ (1U << bit % 8));
    CAPTURE(bit);
    CHECK(fault_of(bytes) != PacketFault::kNone);
  }
  // The payload is not covered.
  Bytes bytes = packet;
  bytes.back() ^= 1;
  CHECK(fault_of(bytes) == PacketFault::kNone);
  bytes = packet;
  bytes[10] ^= 0x80;
  CHECK(fault_of(bytes) == PacketFault::kBadChecksum);
}

TEST_CASE("bytes after the total length are padding and not part of the packet") {
  Bytes bytes = make_packet({.payload = {1, 2, 3}});
  const Bytes packet = bytes;
  bytes.insert(bytes.end(), 37, 0xee);
  Ipv4Packet view;
  REQUIRE(Ipv4Packet::parse(bytes, view) == PacketFault::kNone);
  CHECK(Bytes(view.bytes().begin(), view.bytes().end()) == packet);
  CHECK(Bytes(view.payload().begin(), view.payload().end()) == Bytes{1, 2, 3});
}

TEST_CASE("a view shows the header's fields, with and without options") {
  for (const size_t options : {0, 4, 8, 40}) {
    Bytes bytes = make_packet({.source = ip(1, 2, 3, 4),
                               .destination = ip(250, 251, 252, 253),
                               .ttl = 200,
                               .protocol = 6,
                               .fragment = 0x3fff,
                               .options = options,
                               .payload = {9, 8}});
    Ipv4Packet view;
    REQUIRE(Ipv4Packet::parse(bytes, view) == PacketFault::kNone);
    CHECK(view.header_length() == 20 + options);
    CHECK(view.source() == 0x01020304);
    CHECK(view.destination() == 0xfafbfcfd);
    CHECK(view.ttl() == 200);
    CHECK(view.protocol() == 6);
    CHECK(view.fragment_offset() == 0x1fff * 8);
    REQUIRE(view.payload().size() == 2);
    CHECK(view.payload()[0] == 9);
  }
}

TEST_CASE("the flags are not part of the fragment offset") {
  for (const uint16_t flags : {0x0000, 0x2000, 0x4000, 0x8000, 0xe000}) {
    Bytes first = make_packet({.fragment = flags});
    Bytes later = make_packet({.fragment = static_cast<uint16_t>(flags | 1)});
    Ipv4Packet view;
    REQUIRE(Ipv4Packet::parse(first, view) == PacketFault::kNone);
    CHECK(view.fragment_offset() == 0);
    REQUIRE(Ipv4Packet::parse(later, view) == PacketFault::kNone);
    CHECK(view.fragment_offset() == 8);
  }
}

TEST_CASE("the greatest packet is 65,535 bytes") {
  Bytes bytes = make_packet({.payload = Bytes(65515, 3)});
  REQUIRE(bytes.size() == 65535);
  Ipv4Packet view;
  REQUIRE(Ipv4Packet::parse(bytes, view) == PacketFault::kNone);
  CHECK(view.payload().size() == 65515);
}

TEST_CASE("decrement_ttl over all TTLs and protocols leaves exactly a recomputed header") {
  size_t differences = 0;
  for (uint32_t ttl = 1; ttl <= 255; ++ttl) {
    for (uint32_t protocol = 0; protocol <= 255; ++protocol) {
      Bytes bytes = make_packet({.ttl = static_cast<uint8_t>(ttl),
                                 .protocol = static_cast<uint8_t>(protocol),
                                 .id = static_cast<uint16_t>(ttl * protocol),
                                 .payload = {}});
      const Bytes expected = one_hop_later(bytes);
      Ipv4Packet view;
      if (Ipv4Packet::parse(bytes, view) != PacketFault::kNone) ++differences;
      view.decrement_ttl();
      if (bytes != expected) ++differences;
    }
  }
  CHECK(differences == 0);
}

TEST_CASE("prefix masks, subnets, multicast and loopback") {
  CHECK(prefix_mask(0) == 0);
  CHECK(prefix_mask(1) == 0x80000000U);
  CHECK(prefix_mask(24) == 0xffffff00U);
  CHECK(prefix_mask(32) == 0xffffffffU);
  CHECK(kOwn.contains(kContainer1));
  CHECK(!kOwn.contains(kContainer2));
  CHECK(kOverlay.broadcast() == ip(100, 96, 255, 255));
  CHECK(Subnet{0, 0}.contains(0xffffffffU));
  CHECK(is_multicast(ip(224, 0, 0, 0)));
  CHECK(is_multicast(ip(239, 255, 255, 255)));
  CHECK(!is_multicast(ip(223, 255, 255, 255)));
  CHECK(!is_multicast(ip(240, 0, 0, 0)));
  CHECK(is_loopback(ip(127, 255, 0, 1)));
  CHECK(!is_loopback(ip(128, 0, 0, 1)));
}

}  // namespace flannelette::test
