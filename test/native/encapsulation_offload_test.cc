// Encapsulation over a TUN with virtio headers and a socket with UDP_SEGMENT, against a scripted
// kernel: the wire is that of single packets, whatever the kernel takes or refuses.
#include <doctest/doctest.h>

#include <random>

#include "engine/encapsulation.h"
#include "scripted_io.h"

namespace flannelette::test {

TEST_CASE(
    "encapsulation with offload: equal packets to one hop go as a train, the wire is the same") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kOffload));
  offer(rig.io, 40, 1000);
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 40, 1000));
  CHECK(rig.io.trains == 1);
  CHECK(rig.io.offered == std::vector<size_t>{1});
  CHECK(encapsulation.counters().sent_packets.get() == 40);
  CHECK(encapsulation.counters().sent_bytes.get() == 40000);
}

TEST_CASE(
    "encapsulation with offload: a shorter packet ends a train, a longer one or another hop begins "
    "one") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kOffload));
  std::vector<Bytes> packets;
  for (const size_t size : {100U, 100U, 60U, 100U, 120U, 120U}) {
    const auto number = static_cast<uint32_t>(packets.size());
    packets.push_back(numbered_packet(number, size));
  }
  packets.push_back(numbered_packet(6, 120, {.destination = kContainer3}));
  packets.push_back(numbered_packet(7, 120, {.destination = kContainer3}));
  for (const Bytes& packet : packets) rig.io.tun_reads.push_back({packet, 0});
  encapsulation.carry();
  REQUIRE(rig.io.sent.size() == packets.size());
  for (size_t i = 0; i < packets.size(); ++i)
    CHECK(rig.io.sent[i].bytes == one_hop_later(packets[i]));
  // 100 100 60 | 100 | 120 120 | 120 120 to node 3
  CHECK(rig.io.offered == std::vector<size_t>{4});
  CHECK(rig.io.trains == 3);
  CHECK(rig.io.sent[7].destination == kNode3);
}

TEST_CASE("encapsulation with offload: looks for longer after one packet than after a train") {
  const auto yields_after = [](size_t packets) {
    Rig rig;
    Encapsulation encapsulation(rig.context(Mode::kOffload));
    offer(rig.io, packets, 1000);
    encapsulation.carry();
    CHECK(rig.io.sent.size() == packets);
    return rig.io.most_yields;
  };
  CHECK(yields_after(1) == 12);
  CHECK(yields_after(40) == 1);
}

TEST_CASE("encapsulation with offload: a run longer than a train is split evenly") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kOffload));
  // 46 packets of 1,472 bytes: 44 fit in a datagram's 65,507.
  offer(rig.io, 46, 1472);
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 46, 1472));
  REQUIRE(rig.io.train_packets.size() == 2);
  CHECK(rig.io.train_packets[0] == 23);
  CHECK(rig.io.train_packets[1] == 23);
}

TEST_CASE("encapsulation with offload: a large packet is segmented, its segments go as trains") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kOffload));
  const size_t payload = 20 * 1420 + 77;
  const Bytes large = tcp_packet({.payload = payload});
  VirtioNetHeader header;
  header.flags = kNeedsChecksum;
  header.gso_type = kGsoTcp4;
  header.gso_size = 1420;
  header.checksum_start = 20;
  header.checksum_offset = 16;
  rig.io.tun_reads = {{large, 0, header}};
  encapsulation.carry();
  REQUIRE(rig.io.sent.size() == 21);
  Bytes joined;
  for (SentDatagram& datagram : rig.io.sent) {
    Ipv4Packet view;
    REQUIRE(Ipv4Packet::parse(datagram.bytes, view) == PacketFault::kNone);
    CHECK(view.ttl() == 63);
    joined.insert(joined.end(), datagram.bytes.begin() + 40, datagram.bytes.end());
  }
  CHECK(joined == Bytes(large.begin() + 40, large.end()));
  CHECK(rig.io.trains == 1);
  CHECK(encapsulation.counters().received_packets.get() == 21);
  CHECK(encapsulation.counters().sent_packets.get() == 21);
}

TEST_CASE(
    "encapsulation with offload: an unfinished checksum is finished, a contradiction dropped") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kOffload));
  Bytes packet = tcp_packet({.payload = 100});
  VirtioNetHeader header;
  header.flags = kNeedsChecksum;
  header.checksum_start = 20;
  header.checksum_offset = 16;
  VirtioNetHeader outside = header;
  outside.checksum_start = 139;
  VirtioNetHeader unknown;
  unknown.gso_type = 4;
  unknown.gso_size = 100;
  // The sum to start from: that of the pseudo-header.
  Bytes pseudo(packet.begin() + 12, packet.begin() + 20);
  pseudo.insert(pseudo.end(), {0, 6, 0, 120});
  put_word(packet, 36, 0xffffU - naive_checksum(pseudo));
  rig.io.tun_reads = {{packet, 0, header}, {packet, 0, outside}, {packet, 0, unknown}};
  encapsulation.carry();
  REQUIRE(rig.io.sent.size() == 1);
  CHECK(drops(encapsulation, DropReason::kBadOffload) == 2);
  Ipv4Packet view;
  REQUIRE(Ipv4Packet::parse(rig.io.sent[0].bytes, view) == PacketFault::kNone);
  const Bytes& finished = rig.io.sent[0].bytes;
  CHECK(word_at(finished, 36) == transport_checksum(finished));
}

TEST_CASE("encapsulation with offload: EIO switches trains off for good, and nothing is lost") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kOffload));
  rig.io.send_results = {-EIO};
  offer(rig.io, 30, 500);
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 30, 500));
  CHECK(rig.io.trains == 0);
  CHECK(rig.features().state(KernelFeature::kUdpGso) == FeatureState::kRefused);
  CHECK(rig.features().error(KernelFeature::kUdpGso) == EIO);
  const auto events = rig.events();
  REQUIRE(events.size() == 1);
  CHECK(events[0].type == EventType::kFeatureRefused);
  CHECK(events[0].detail == EIO);
  CHECK(events[0].address == static_cast<uint32_t>(KernelFeature::kUdpGso));
  CHECK(all_drops(encapsulation) == 0);
}

TEST_CASE(
    "encapsulation with offload: a next hop that refuses trains gets singles, the others trains") {
  for (const int error : {EINVAL, EMSGSIZE}) {
    Rig rig;
    Encapsulation encapsulation(rig.context(Mode::kOffload));
    rig.io.send_results = {-error};
    offer(rig.io, 10, 500);
    for (uint32_t i = 0; i < 10; ++i)
      rig.io.tun_reads.push_back({numbered_packet(10 + i, 500, {.destination = kContainer3}), 0});
    encapsulation.carry();
    CHECK(rig.io.sent.size() == 20);
    CHECK(rig.io.trains == 1);
    CHECK(rig.features().on(KernelFeature::kUdpGso));
    CHECK(all_drops(encapsulation) == 0);
  }
}

TEST_CASE("encapsulation with offload: a train a firewall refuses is dropped whole and counted") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kOffload));
  rig.io.send_results = {-EPERM};
  offer(rig.io, 10, 500);
  encapsulation.carry();
  CHECK(rig.io.sent.empty());
  CHECK(drops(encapsulation, DropReason::kSendRefused) == 10);
}

TEST_CASE(
    "encapsulation: a kernel without sendmmsg gets one call a message, with or without trains") {
  for (const Mode mode : {Mode::kBatch, Mode::kOffload}) {
    Rig rig;
    Encapsulation encapsulation(rig.context(mode));
    rig.io.send_results = {-ENOSYS};
    offer(rig.io, 30, 500);
    encapsulation.carry();
    CHECK(in_order(rig.io.sent, 30, 500));
    CHECK(rig.io.sendmmsg_calls == 1);
    CHECK(rig.io.sendmsg_calls == (mode == Mode::kBatch ? 30 : 1));
    CHECK(rig.features().state(KernelFeature::kMmsg) == FeatureState::kRefused);
  }
}

TEST_CASE("encapsulation: a sendmmsg refused to two threads at once costs neither a packet") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  rig.io.on_many = [&rig] { rig.features().refuse(KernelFeature::kMmsg, ENOSYS); };
  rig.io.send_results = {-ENOSYS};
  offer(rig.io, 30, 500);
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 30, 500));
  CHECK(all_drops(encapsulation) == 0);
  CHECK(rig.events().empty());
}

TEST_CASE("encapsulation with offload: partial sends of trains release whole trains only") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kOffload));
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) rig.io.send_results.push_back(i % 3 == 0 ? -EAGAIN : 1);
  uint32_t count = 0;
  std::vector<Bytes> packets;
  for (int run = 0; run < 40; ++run) {
    const size_t size = 40 + random() % 1400;
    for (uint32_t i = 0; i < 1 + random() % 60; ++i)
      packets.push_back(numbered_packet(count++, size));
  }
  for (const Bytes& packet : packets) rig.io.tun_reads.push_back({packet, 0});
  encapsulation.carry();
  REQUIRE(rig.io.sent.size() == packets.size());
  for (size_t i = 0; i < packets.size(); ++i)
    CHECK(rig.io.sent[i].bytes == one_hop_later(packets[i]));
  CHECK(all_drops(encapsulation) == 0);
}

TEST_CASE("encapsulation with offload: what finds no room waits for it") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kOffload));
  // Blocked while more is read than the ring holds.
  rig.io.send_blocked = true;
  const size_t payload = 65000;
  VirtioNetHeader header;
  header.gso_type = kGsoTcp4;
  header.gso_size = 1420;
  for (int i = 0; i < 40; ++i)
    rig.io.tun_reads.push_back({tcp_packet({.payload = payload}), 0, header});
  rig.io.on_poll = [&rig](pollfd*, int) {
    rig.io.send_blocked = false;
    return false;
  };
  encapsulation.carry();
  CHECK(rig.io.sent.size() == 40 * 46);
  CHECK(all_drops(encapsulation) == 0);
}

}  // namespace flannelette::test
