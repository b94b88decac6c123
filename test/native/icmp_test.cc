// ICMP errors: when RFC 1122 lets a host send one, and what it quotes.
#include "core/icmp.h"

#include <doctest/doctest.h>

#include "packets.h"

namespace flannelette::test {

namespace {

bool answers(const PacketSpec& spec, Subnet network = kOverlay) {
  Bytes bytes = make_packet(spec);
  Ipv4Packet view;
  REQUIRE(Ipv4Packet::parse(bytes, view) == PacketFault::kNone);
  return may_send_icmp_error(view, network);
}

}  // namespace

TEST_CASE("ordinary packets are answered: UDP, TCP, unknown protocols, with options, empty") {
  for (const uint8_t protocol : {6, 17, 47, 132, 255}) {
    CHECK(answers({.protocol = protocol}));
    CHECK(answers({.protocol = protocol, .options = 40, .payload = {3}}));
  }
}

TEST_CASE("ICMP queries are answered, errors and unknown types are not") {
  for (uint32_t type = 0; type <= 255; ++type) {
    const bool query = type == 0 || type == 8 || (type >= 13 && type <= 18);
    CAPTURE(type);
    const Bytes payload = {static_cast<uint8_t>(type), 0, 0, 0, 0, 0, 0, 0};
    CHECK(answers({.protocol = 1, .payload = payload}) == query);
    // The type is found behind options too.
    CHECK(answers({.protocol = 1, .options = 12, .payload = payload}) == query);
  }
  // An ICMP packet without a type may be an error.
  CHECK(!answers({.protocol = 1, .payload = {}}));
}

TEST_CASE("multicast and broadcast destinations are not answered") {
  CHECK(!answers({.destination = ip(224, 0, 0, 1)}));
  CHECK(!answers({.destination = ip(239, 255, 255, 255)}));
  CHECK(!answers({.destination = ip(255, 255, 255, 255)}));
  CHECK(!answers({.destination = kOverlay.broadcast()}));
  CHECK(answers({.destination = kOverlay.broadcast() - 1}));
  CHECK(answers({.destination = kOverlay.broadcast()}, Subnet{ip(10, 0, 0, 0), 8}));
}

TEST_CASE("later fragments are not answered, first fragments are") {
  CHECK(answers({.fragment = 0x2000}));
  CHECK(answers({.fragment = 0x4000}));
  CHECK(!answers({.fragment = 1}));
  CHECK(!answers({.fragment = 0x2001}));
  CHECK(!answers({.fragment = 0x1fff}));
}

TEST_CASE("a source that is not a single host gets no answer (RFC 1122 section 3.2.2)") {
  for (const uint32_t source :
       {ip(0, 0, 0, 0), ip(0, 1, 2, 3), ip(127, 0, 0, 1), ip(127, 255, 255, 255), ip(224, 0, 0, 5),
        ip(239, 1, 1, 1), ip(240, 0, 0, 1), ip(255, 255, 255, 254), ip(255, 255, 255, 255),
        kOverlay.broadcast()}) {
    CAPTURE(source);
    CHECK(!answers({.source = source}));
  }
  for (const uint32_t source : {ip(1, 0, 0, 1), ip(100, 96, 1, 0), ip(126, 255, 255, 255),
                                ip(128, 0, 0, 0), ip(223, 255, 255, 255)}) {
    CAPTURE(source);
    CHECK(answers({.source = source}));
  }
}

TEST_CASE("an error is a right packet that quotes what was received and no more") {
  for (const IcmpError error : {IcmpError::kNetUnreachable, IcmpError::kTimeExceeded}) {
    for (const size_t payload : {0, 1, 7, 8, 9, 100, 527, 528, 529, 1400, 65515}) {
      Bytes original = make_packet({.payload = Bytes(payload, 0xa5)});
      // What follows in the buffer belongs to an earlier packet and must not leak.
      const size_t length = original.size();
      original.insert(original.end(), 700, 0x11);
      Ipv4Packet view;
      REQUIRE(Ipv4Packet::parse(original, view) == PacketFault::kNone);
      IcmpBuffer buffer;
      buffer.fill(0xcc);
      const size_t total = build_icmp_error(error, view, kTunAddress, buffer);

      CAPTURE(payload);
      const size_t quoted = std::min<size_t>(length, 576 - 28);
      REQUIRE(total == 28 + quoted);
      REQUIRE(total <= 576);
      Bytes message(buffer.begin(), buffer.begin() + static_cast<ptrdiff_t>(total));
      Ipv4Packet reply;
      REQUIRE(Ipv4Packet::parse(message, reply) == PacketFault::kNone);
      CHECK(reply.bytes().size() == total);
      CHECK(reply.source() == kTunAddress);
      CHECK(reply.destination() == kContainer1);
      CHECK(reply.protocol() == 1);
      CHECK(reply.ttl() == 64);
      CHECK(reply.fragment_offset() == 0);
      const auto icmp = reply.payload();
      CHECK(icmp[0] == (error == IcmpError::kTimeExceeded ? 11 : 3));
      CHECK(icmp[1] == 0);
      CHECK(long_at(icmp, 4) == 0);
      CHECK(naive_checksum(icmp) == 0);
      CHECK(naive_checksum(std::span<const uint8_t>(message).first(20)) == 0);
      CHECK(std::equal(icmp.begin() + 8, icmp.end(), original.begin()));
      // Nothing is written behind it.
      for (size_t i = total; i < buffer.size(); ++i) REQUIRE(buffer[i] == 0xcc);
      // And an error about it is never sent.
      CHECK(!may_send_icmp_error(reply, kOverlay));
    }
  }
}

TEST_CASE("a buffer used again keeps nothing of the error before") {
  Bytes longer = make_packet({.payload = Bytes(600, 0xff)});
  Bytes shorter = make_packet({.payload = Bytes(9, 0x01)});
  Ipv4Packet view;
  IcmpBuffer used;
  IcmpBuffer fresh{};
  REQUIRE(Ipv4Packet::parse(longer, view) == PacketFault::kNone);
  build_icmp_error(IcmpError::kTimeExceeded, view, kTunAddress, used);
  REQUIRE(Ipv4Packet::parse(shorter, view) == PacketFault::kNone);
  const size_t length = build_icmp_error(IcmpError::kNetUnreachable, view, kTunAddress, used);
  CHECK(build_icmp_error(IcmpError::kNetUnreachable, view, kTunAddress, fresh) == length);
  CHECK(std::equal(used.begin(), used.begin() + static_cast<ptrdiff_t>(length), fresh.begin()));
}

TEST_CASE("own containers get errors from the gateway, everybody else from the TUN's address") {
  const auto source = [](uint32_t to) { return icmp_error_source(to, kOwn, kTunAddress); };
  for (uint32_t host = 1; host <= 254; ++host) CHECK(source(kOwn.network + host) == kGateway1);
  CHECK(source(kTunAddress) == kTunAddress);
  CHECK(source(kContainer2) == kTunAddress);
  CHECK(source(kNode2) == kTunAddress);
  // The smallest subnet that has a gateway beside the TUN's address.
  const Subnet four{ip(100, 96, 1, 4), 30};
  CHECK(icmp_error_source(ip(100, 96, 1, 6), four, ip(100, 96, 1, 4)) == ip(100, 96, 1, 5));
  const Subnet two{ip(100, 96, 1, 4), 31};
  CHECK(icmp_error_source(ip(100, 96, 1, 5), two, ip(100, 96, 1, 4)) == ip(100, 96, 1, 4));
}

}  // namespace flannelette::test
