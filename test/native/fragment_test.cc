// Fragments put together again by the book (RFC 791) are the packet.
#include "core/fragment.h"

#include <doctest/doctest.h>

#include <cstring>

#include "packets.h"

namespace flannelette::test {

namespace {

Bytes counting(size_t bytes) {
  Bytes out(bytes);
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<uint8_t>(i * 31 + i / 256);
  return out;
}

std::vector<Bytes> cut(Bytes packet, size_t limit, bool in_place) {
  Ipv4Packet view;
  REQUIRE(Ipv4Packet::parse(packet, view) == PacketFault::kNone);
  const size_t bytes = FragmentPlan(view, limit).bytes();
  Bytes room(bytes + 8, 0xee);
  if (in_place) {
    std::memcpy(room.data(), packet.data(), packet.size());
    view = Ipv4Packet::parsed(std::span(room).first(packet.size()));
  }
  const FragmentPlan plan(view, limit);
  plan.write(std::span(room).first(bytes));
  CHECK(room[bytes] == (in_place && packet.size() > bytes ? room[bytes] : 0xee));
  std::vector<Bytes> out;
  size_t at = 0;
  for (size_t i = 0; i < plan.count(); ++i) {
    const size_t length = i + 1 < plan.count() ? plan.length() : plan.last_length();
    out.emplace_back(room.begin() + static_cast<ptrdiff_t>(at),
                     room.begin() + static_cast<ptrdiff_t>(at + length));
    at += length;
  }
  CHECK(at == bytes);
  return out;
}

// Payloads by their offsets; checks each header on the way.
Bytes joined(const std::vector<Bytes>& fragments, const Bytes& packet, size_t limit) {
  const uint32_t before = word_at(packet, 6);
  Bytes out;
  for (size_t i = 0; i < fragments.size(); ++i) {
    Bytes bytes = fragments[i];
    Ipv4Packet view;
    REQUIRE(Ipv4Packet::parse(bytes, view) == PacketFault::kNone);
    CHECK(bytes.size() <= limit);
    CHECK(view.bytes().size() == bytes.size());
    const bool last = i + 1 == fragments.size();
    CHECK((word_at(bytes, 6) & 0x2000) == (last ? before & 0x2000 : 0x2000));
    CHECK((word_at(bytes, 6) & 0x1fff) == (before & 0x1fff) + out.size() / 8);
    CHECK(word_at(bytes, 4) == word_at(packet, 4));
    CHECK(long_at(bytes, 12) == long_at(packet, 12));
    CHECK(long_at(bytes, 16) == long_at(packet, 16));
    out.insert(out.end(), view.payload().begin(), view.payload().end());
  }
  return out;
}

}  // namespace

TEST_CASE("fragments: the packet comes out again, in place or not, whatever the sizes") {
  for (const size_t payload : {529U, 1344U, 1352U, 1353U, 1444U, 8980U, 65000U}) {
    for (const size_t options : {0U, 12U, 40U}) {
      for (const size_t limit : {548U, 1372U, 1373U, 1379U}) {
        for (const uint16_t fragment : {0, 0x2000, 0x2001, 0x0010}) {
          for (const bool in_place : {false, true}) {
            const Bytes packet = make_packet({.id = 4711,
                                              .fragment = fragment,
                                              .options = options,
                                              .payload = counting(payload)});
            const auto fragments = cut(packet, limit, in_place);
            CHECK(joined(fragments, packet, limit) == counting(payload));
          }
        }
      }
    }
  }
}

TEST_CASE("fragments: options that are not to be copied are only in the first") {
  Bytes packet = make_packet({.options = 12, .payload = counting(1400)});
  // Record route (7), not copied; loose source route (131), copied.
  const Bytes options = {7, 7, 4, 0, 0, 0, 0, 131, 3, 4, 1, 0};
  std::copy(options.begin(), options.end(), packet.begin() + 20);
  fix_checksum(packet);
  const auto fragments = cut(packet, 748, false);
  REQUIRE(fragments.size() == 2);
  CHECK(Bytes(fragments[0].begin() + 20, fragments[0].begin() + 32) == options);
  const Bytes later = {1, 1, 1, 1, 1, 1, 1, 131, 3, 4, 1, 0};
  CHECK(Bytes(fragments[1].begin() + 20, fragments[1].begin() + 32) == later);
}

TEST_CASE("fragments: DF forbids them") {
  for (const bool forbidden : {false, true}) {
    Bytes packet = make_packet({.fragment = static_cast<uint16_t>(forbidden ? 0x4000 : 0)});
    Ipv4Packet view;
    REQUIRE(Ipv4Packet::parse(packet, view) == PacketFault::kNone);
    CHECK(forbids_fragments(view) == forbidden);
  }
}

}  // namespace flannelette::test
