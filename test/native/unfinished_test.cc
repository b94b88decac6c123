// Packets whose checksum, and perhaps segmentation, an in-kernel sender left to a device that does
// not exist: the TUN gets them unfinished where it can finish them, finished where it cannot.
#include "core/unfinished.h"

#include <doctest/doctest.h>

#include "engine/decapsulation.h"
#include "scripted_io.h"

namespace flannelette::test {

namespace {

// The checksum field as the kernel leaves it: the pseudo-header's sum, not inverted.
Bytes unfinished(Bytes packet) {
  uint32_t sum = packet[9] + static_cast<uint32_t>(packet.size() - 20);
  for (size_t at = 12; at < 20; at += 2) sum += word_at(packet, at);
  while (sum > 0xffff) sum = sum % 65536 + sum / 65536;
  put_word(packet, packet[9] == 17 ? 26 : 36, sum);
  return packet;
}

Bytes tcp_from_2(size_t payload) {
  return tcp_packet({.payload = payload, .source = kContainer2, .destination = kContainer1});
}

Bytes udp_from_2(size_t payload) {
  PacketSpec spec{.source = kContainer2, .destination = kContainer1};
  spec.payload.assign(8 + payload, 7);
  put_word(spec.payload, 4, static_cast<uint32_t>(8 + payload));
  Bytes packet = make_packet(spec);
  fix_transport_checksum(packet);
  return packet;
}

// The finished packets of a TCP packet without options, of `size` payload bytes each.
std::vector<Bytes> cut(const Bytes& packet, size_t size) {
  std::vector<Bytes> out;
  for (size_t at = 40; at < packet.size(); at += size) {
    const size_t end = std::min(at + size, packet.size());
    Bytes segment(packet.begin(), packet.begin() + 40);
    segment.insert(segment.end(), packet.begin() + static_cast<ptrdiff_t>(at),
                   packet.begin() + static_cast<ptrdiff_t>(end));
    put_word(segment, 2, static_cast<uint32_t>(segment.size()));
    put_word(segment, 4, static_cast<uint32_t>(word_at(packet, 4) + out.size()));
    put_long(segment, 24, static_cast<uint32_t>(long_at(packet, 24) + at - 40));
    fix_checksum(segment);
    fix_transport_checksum(segment);
    out.push_back(segment);
  }
  return out;
}

std::optional<VirtioNetHeader> offload_of(Bytes packet, size_t mtu = 1472) {
  Ipv4Packet view;
  REQUIRE(Ipv4Packet::parse(packet, view) == PacketFault::kNone);
  return unfinished_offload(view, mtu);
}

}  // namespace

TEST_CASE("unfinished: told by the checksum field alone, of whole TCP and UDP packets only") {
  CHECK(!offload_of(tcp_from_2(100)));
  CHECK(!offload_of(udp_from_2(100)));
  const auto tcp = offload_of(unfinished(tcp_from_2(100)));
  REQUIRE(tcp);
  CHECK(tcp->flags == kNeedsChecksum);
  CHECK(tcp->checksum_start == 20);
  CHECK(tcp->checksum_offset == 16);
  CHECK(tcp->gso_type == kGsoNone);
  const auto udp = offload_of(unfinished(udp_from_2(3000)));
  REQUIRE(udp);
  CHECK(udp->checksum_offset == 6);
  CHECK(udp->gso_type == kGsoNone);

  Bytes fragment = unfinished(udp_from_2(100));
  put_word(fragment, 6, 0x2000);
  fix_checksum(fragment);
  CHECK(!offload_of(fragment));
  Bytes other = unfinished(udp_from_2(100));
  other[9] = 50;
  fix_checksum(other);
  CHECK(!offload_of(other));
  CHECK(!offload_of(make_packet({.protocol = 6, .payload = Bytes(19, 0)})));
  CHECK(!offload_of(make_packet({.protocol = 17, .payload = Bytes(7, 0)})));
}

TEST_CASE("unfinished: TCP longer than the MTU is to be cut to it") {
  const auto offload = offload_of(unfinished(tcp_from_2(30000)));
  REQUIRE(offload);
  CHECK(offload->gso_type == kGsoTcp4);
  CHECK(offload->gso_size == 1432);
  CHECK(offload->header_length == 40);
  CHECK(offload_of(unfinished(tcp_from_2(1432)))->gso_type == kGsoNone);
  CHECK(offload_of(unfinished(tcp_from_2(1433)))->gso_type == kGsoTcp4);
  // A header that lies beyond the packet is nothing to cut by.
  Bytes broken = tcp_from_2(2000);
  broken[32] = 0xf0;
  broken.resize(80);
  put_word(broken, 2, 80);
  fix_checksum(broken);
  CHECK(offload_of(unfinished(broken), 70)->gso_type == kGsoNone);
}

TEST_CASE("decapsulation with offload hands an unfinished packet on, in order, for the kernel") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kOffload));
  rig.io.datagrams = {{tcp_from_2(10)}, {unfinished(tcp_from_2(30000))}, {tcp_from_2(20)}};
  decapsulation.carry();
  REQUIRE(rig.io.written_large.size() == 3);
  CHECK(rig.io.written_large[0].packet == one_hop_later(tcp_from_2(10)));
  CHECK(rig.io.written_large[1].packet == one_hop_later(unfinished(tcp_from_2(30000))));
  CHECK(rig.io.written_large[2].packet == one_hop_later(tcp_from_2(20)));
  const VirtioNetHeader& header = rig.io.written_large[1].offload;
  CHECK(header.flags == kNeedsChecksum);
  CHECK(header.gso_type == kGsoTcp4);
  CHECK(header.gso_size == 1432);
  CHECK(header.header_length == 40);
  CHECK(header.checksum_start == 20);
  CHECK(header.checksum_offset == 16);
  CHECK(all_drops(decapsulation) == 0);
  CHECK(decapsulation.counters().sent_packets.get() == 3);
}

TEST_CASE("decapsulation without a virtio header finishes checksum and cut by itself") {
  for (const Mode mode : {Mode::kBasic, Mode::kBatch}) {
    Rig rig;
    Decapsulation decapsulation(rig.context(mode));
    const Bytes large = unfinished(tcp_from_2(30000));
    rig.io.datagrams = {{unfinished(tcp_from_2(100))}, {unfinished(udp_from_2(100))}, {large}};
    decapsulation.carry();
    std::vector<Bytes> expected = {one_hop_later(tcp_from_2(100)), one_hop_later(udp_from_2(100))};
    for (Bytes& segment : cut(one_hop_later(large), 1432)) expected.push_back(std::move(segment));
    CHECK(rig.io.written == expected);
    CHECK(decapsulation.counters().received_packets.get() == 3);
    CHECK(decapsulation.counters().sent_packets.get() == 3);
    CHECK(all_drops(decapsulation) == 0);
  }
}

TEST_CASE("decapsulation with offload finishes by itself what the TUN does not take") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kOffload));
  rig.io.write_results = {-EINVAL};
  rig.io.datagrams = {{unfinished(tcp_from_2(2864))}};
  decapsulation.carry();
  REQUIRE(rig.io.written_large.size() == 2);
  for (const auto& write : rig.io.written_large) {
    CHECK(write.offload.gso_type == kGsoNone);
    CHECK(write.packet.size() == 1472);
    CHECK(word_at(write.packet, 36) == transport_checksum(write.packet));
  }
  CHECK(all_drops(decapsulation) == 0);
}

}  // namespace flannelette::test
