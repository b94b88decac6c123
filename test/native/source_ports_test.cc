// Several source ports: a flow leaves by one of them, in order; trains and batches never mix them.
#include <doctest/doctest.h>

#include <map>
#include <set>
#include <utility>

#include "core/flow_hash.h"
#include "engine/encapsulation.h"
#include "scripted_io.h"

namespace flannelette::test {

namespace {

// A UDP packet of flow `flow` (its source port) with a number in its payload.
Bytes flow_packet(uint16_t flow, uint32_t number, size_t size = 100) {
  PacketSpec spec;
  spec.payload.assign(size - 20, 0);
  put_word(spec.payload, 0, flow);
  put_word(spec.payload, 2, 53);
  put_long(spec.payload, 8, number);
  return make_packet(spec);
}

uint32_t hash_of(Bytes packet) { return flow_hash(Ipv4Packet::parsed(packet)); }

DirectionContext with_ports(Rig& rig, Mode mode, int further) {
  DirectionContext context = rig.context(mode);
  for (int i = 0; i < further; ++i) context.source_fds.push_back(kSourceFd + i);
  return context;
}

}  // namespace

TEST_CASE("flow hash: by addresses, protocol and ports, and by nothing else") {
  const uint32_t base = hash_of(flow_packet(1000, 1));
  CHECK(hash_of(flow_packet(1000, 2, 900)) == base);
  CHECK(hash_of(one_hop_later(flow_packet(1000, 1))) == base);
  CHECK(hash_of(flow_packet(1001, 1)) != base);
  const auto variant = [](auto change) {
    PacketSpec spec;
    spec.payload = {3, 232, 0, 53, 0, 0, 0, 0};
    change(spec);
    return hash_of(make_packet(spec));
  };
  CHECK(variant([](PacketSpec&) {}) == base);
  CHECK(variant([](PacketSpec& spec) { spec.options = 8; }) == base);
  CHECK(variant([](PacketSpec& spec) { spec.source += 1; }) != base);
  CHECK(variant([](PacketSpec& spec) { spec.destination += 1; }) != base);
  CHECK(variant([](PacketSpec& spec) { spec.protocol = 6; }) != base);
  CHECK(variant([](PacketSpec& spec) { spec.payload[3] = 54; }) != base);
}

TEST_CASE("flow hash: fragments, other protocols and short packets count without ports") {
  const auto hash = [](uint16_t fragment, uint8_t protocol, Bytes payload) {
    PacketSpec spec;
    spec.fragment = fragment;
    spec.protocol = protocol;
    spec.payload = std::move(payload);
    return hash_of(make_packet(spec));
  };
  // First, middle and last fragment of a packet; DF is no fragment.
  CHECK(hash(0x2000, 17, {1, 2, 3, 4}) == hash(0x2001, 17, {5, 6, 7, 8}));
  CHECK(hash(0x2000, 17, {1, 2, 3, 4}) == hash(0x0002, 17, {9}));
  CHECK(hash(0x4000, 17, {1, 2, 3, 4}) == hash(0, 17, {1, 2, 3, 4}));
  CHECK(hash(0x4000, 17, {1, 2, 3, 4}) != hash(0, 17, {1, 2, 3, 5}));
  CHECK(hash(0, 1, {1, 2, 3, 4}) == hash(0, 1, {5, 6, 7, 8}));
  CHECK(hash(0, 17, {1, 2, 3}) == hash(0, 17, {}));
}

TEST_CASE("source ports: every flow by one of them, in order, and all of them in use") {
  for (const Mode mode : {Mode::kBasic, Mode::kBatch, Mode::kOffload}) {
    Rig rig;
    Encapsulation encapsulation(with_ports(rig, mode, 7));
    constexpr uint16_t kFlows = 200;
    for (uint32_t number = 0; number < 20; ++number)
      for (uint16_t flow = 0; flow < kFlows; ++flow)
        rig.io.tun_reads.push_back({flow_packet(flow, number), 0});
    encapsulation.carry();
    REQUIRE(rig.io.sent.size() == size_t{kFlows} * 20);
    std::map<uint16_t, std::pair<int, uint32_t>> seen;  // socket and next number of each flow
    std::map<int, size_t> flows_of;
    bool in_order = true;
    for (const SentDatagram& datagram : rig.io.sent) {
      const uint16_t flow = word_at(datagram.bytes, 20);
      const auto [at, first] = seen.try_emplace(flow, datagram.fd, 0);
      if (first) ++flows_of[datagram.fd];
      in_order = in_order && at->second == std::pair(datagram.fd, long_at(datagram.bytes, 28)) &&
                 datagram.destination == kNode2 && datagram.port == 8285 &&
                 datagram.bytes == one_hop_later(flow_packet(flow, at->second.second));
      ++at->second.second;
    }
    CHECK(in_order);
    CHECK(flows_of.size() == 8);
    CHECK(flows_of.contains(kUdpFd));
    for (const auto& [fd, flows] : flows_of) CHECK(flows >= 5);
  }
}

TEST_CASE("source ports: a train is of one port, a run within a flow stays a train") {
  Rig rig;
  Encapsulation encapsulation(with_ports(rig, Mode::kOffload, 1));
  // Two flows that leave by different ports.
  uint16_t other = 1;
  while ((hash_of(flow_packet(other, 0)) >> 31) == (hash_of(flow_packet(0, 0)) >> 31)) ++other;
  for (const uint16_t flow : {uint16_t{0}, other, uint16_t{0}})
    for (uint32_t number = 0; number < 10; ++number)
      rig.io.tun_reads.push_back({flow_packet(flow, number), 0});
  encapsulation.carry();
  CHECK(rig.io.train_packets == std::vector<size_t>{10, 10, 10});
  REQUIRE(rig.io.sent.size() == 30);
  CHECK(rig.io.sent[0].fd != rig.io.sent[10].fd);
  CHECK(rig.io.sent[0].fd == rig.io.sent[20].fd);
}

TEST_CASE("source ports: the socket that takes nothing is the one waited for") {
  Rig rig;
  Encapsulation encapsulation(with_ports(rig, Mode::kBatch, 1));
  rig.io.blocked_fd = kSourceFd;
  uint16_t flow = 0;
  while ((hash_of(flow_packet(flow, 0)) >> 31) == 0) ++flow;
  rig.io.tun_reads.push_back({flow_packet(flow, 0), 0});
  rig.io.on_poll = [&](pollfd*, int) {
    rig.io.blocked_fd = -1;
    return false;
  };
  encapsulation.carry();
  CHECK(!rig.io.overrun);
  REQUIRE(rig.io.polls.size() == 2);
  CHECK(rig.io.polls[0].source_fd == kSourceFd);
  CHECK(rig.io.polls[0].tun == POLLIN);
  CHECK(rig.io.polls[0].udp == 0);
  REQUIRE(rig.io.sent.size() == 1);
  CHECK(rig.io.sent[0].fd == kSourceFd);
}

}  // namespace flannelette::test
