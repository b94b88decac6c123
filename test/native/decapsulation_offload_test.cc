// Decapsulation with UDP_GRO on the socket and virtio headers on the TUN, against a scripted
// kernel: each datagram of a train is checked as its own, flows become large writes, refused ones
// singles.
#include <doctest/doctest.h>

#include "engine/decapsulation.h"
#include "scripted_io.h"

namespace flannelette::test {

namespace {

// Segments of one flow from node 2's container to ours, adjoining.
Bytes segment(uint32_t i, uint16_t port = 40000, size_t payload = 1000) {
  return tcp_packet({.payload = payload,
                     .sequence = 1000 + i * 1000,
                     .id = static_cast<uint16_t>(1 + i),
                     .source_port = port,
                     .source = kContainer2,
                     .destination = kContainer1});
}

// Datagrams of one length back to back, as UDP_GRO hands them over.
Datagram train(const std::vector<Bytes>& packets) {
  Datagram out;
  for (const Bytes& packet : packets)
    out.bytes.insert(out.bytes.end(), packet.begin(), packet.end());
  out.segment = static_cast<int>(packets.front().size());
  return out;
}

}  // namespace

TEST_CASE("decapsulation with offload: a train of one flow becomes one large write") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kOffload));
  rig.io.datagrams = {train({segment(0), segment(1), segment(2), segment(3, 40000, 500)})};
  decapsulation.carry();
  REQUIRE(rig.io.written_large.size() == 1);
  const TunWrite& write = rig.io.written_large[0];
  CHECK(write.offload.gso_type == kGsoTcp4);
  CHECK(write.offload.gso_size == 1000);
  CHECK(write.offload.flags == kNeedsChecksum);
  CHECK(write.packet.size() == 40 + 3500);
  CHECK(word_at(write.packet, 2) == 3540);
  CHECK(write.packet[8] == 63);
  const ThreadCounters& counters = decapsulation.counters();
  CHECK(counters.received_packets.get() == 4);
  CHECK(counters.sent_packets.get() == 4);
  CHECK(counters.sent_bytes.get() == counters.received_bytes.get());
  CHECK(counters.write_calls.get() == 1);
  CHECK(all_drops(decapsulation) == 0);
}

TEST_CASE(
    "decapsulation with offload: interleaved flows become a write each, in order within each") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kOffload));
  rig.io.datagrams = {train({segment(0), segment(0, 50000), segment(1), segment(1, 50000)}),
                      train({segment(2, 50000), segment(2)})};
  decapsulation.carry();
  REQUIRE(rig.io.written_large.size() == 2);
  for (const TunWrite& write : rig.io.written_large) {
    CHECK(write.offload.gso_size == 1000);
    REQUIRE(write.packet.size() == 40 + 3000);
    for (size_t i = 0; i < 3000; ++i) CHECK(write.packet[40 + i] == static_cast<uint8_t>(1000 + i));
  }
  CHECK(word_at(rig.io.written_large[0].packet, 20) == 40000);
  CHECK(word_at(rig.io.written_large[1].packet, 20) == 50000);
}

TEST_CASE("decapsulation with offload: each datagram of a train is checked as its own") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kOffload));
  Bytes broken = segment(1);
  broken[10] ^= 1;
  Bytes foreign = tcp_packet({.payload = 1000, .source = kContainer3, .destination = kContainer1});
  Bytes astray = tcp_packet({.payload = 1000, .source = kContainer2, .destination = kContainer3});
  rig.io.datagrams = {train({segment(0), broken, foreign, astray, segment(1), Bytes(19, 0x45)})};
  decapsulation.carry();
  CHECK(drops(decapsulation, DropReason::kBadChecksum) == 1);
  CHECK(drops(decapsulation, DropReason::kSourceMismatch) == 1);
  CHECK(drops(decapsulation, DropReason::kForeignDestination) == 1);
  CHECK(drops(decapsulation, DropReason::kShort) == 1);
  CHECK(decapsulation.counters().received_packets.get() == 6);
  REQUIRE(rig.io.written_large.size() == 1);
  CHECK(rig.io.written_large[0].packet.size() == 40 + 2000);
}

TEST_CASE(
    "decapsulation with offload: a large write the TUN refuses is repeated packet by packet") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kOffload));
  rig.io.write_results = {-EINVAL};
  rig.io.datagrams = {train({segment(0), segment(1), segment(2)})};
  decapsulation.carry();
  REQUIRE(rig.io.written_large.size() == 3);
  for (uint32_t i = 0; i < 3; ++i) {
    CHECK(rig.io.written_large[i].packet == one_hop_later(segment(i)));
    CHECK(rig.io.written_large[i].offload.gso_type == kGsoNone);
  }
  CHECK(decapsulation.counters().sent_packets.get() == 3);
  CHECK(all_drops(decapsulation) == 0);
  CHECK(rig.features().on(KernelFeature::kTunTso));
}

TEST_CASE(
    "decapsulation with offload: a TUN that refuses every large write gets singles from then on") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kOffload));
  for (int i = 0; i < 8; ++i) {
    rig.io.write_results.push_back(-EINVAL);
    rig.io.write_results.push_back(0);
    rig.io.write_results.push_back(0);
  }
  for (uint32_t i = 0; i < 20; i += 2) {
    rig.io.datagrams.push_back(train({segment(i), segment(i + 1)}));
    // A poll between them, so that each is a batch of its own.
    rig.io.datagrams.push_back({{}, kNode2, EINTR});
  }
  decapsulation.carry();
  CHECK(rig.io.written_large.size() == 20);
  CHECK(rig.features().state(KernelFeature::kTunTso) == FeatureState::kRefused);
  CHECK(rig.events().size() == 1);
  CHECK(all_drops(decapsulation) == 0);
}

TEST_CASE("decapsulation with offload: a full queue is waited for, a device that is down drops") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kOffload));
  rig.io.write_results = {-EAGAIN, 0, -EIO};
  rig.io.datagrams = {
      train({segment(0), segment(1)}), {{}, kNode2, EINTR}, train({segment(2), segment(3)})};
  decapsulation.carry();
  CHECK(rig.io.written_large.size() == 1);
  CHECK(drops(decapsulation, DropReason::kDeviceDown) == 2);
}

TEST_CASE("decapsulation with offload, features off one by one, carries the same packets") {
  for (FeatureSet disabled = 0; disabled <= kAllFeatures; ++disabled) {
    Rig rig;
    Decapsulation decapsulation(rig.context(Mode::kOffload, true, nullptr, disabled));
    const bool trains = (disabled & feature_bit(KernelFeature::kUdpGro)) == 0;
    for (uint32_t i = 0; i < 8; i += 4) {
      const std::vector<Bytes> four = {segment(i), segment(i + 1), segment(i + 2), segment(i + 3)};
      if (trains) {
        rig.io.datagrams.push_back(train(four));
      } else {
        for (const Bytes& packet : four) rig.io.datagrams.push_back({packet});
      }
    }
    decapsulation.carry();
    size_t payload = 0;
    for (const Bytes& bytes : rig.io.written) payload += bytes.size() - 40;
    for (const TunWrite& write : rig.io.written_large) payload += write.packet.size() - 40;
    CHECK(payload == 8000);
    CHECK(decapsulation.counters().sent_packets.get() == 8);
    const bool large = (disabled & feature_bit(KernelFeature::kTunTso)) == 0;
    CHECK(rig.io.written.size() + rig.io.written_large.size() ==
          (large ? (disabled & feature_bit(KernelFeature::kMmsg) && !trains
                        ? 8U
                        : (trains && (disabled & feature_bit(KernelFeature::kMmsg)) ? 2U : 1U))
                 : 8U));
  }
}

TEST_CASE("decapsulation: a kernel without recvmmsg gets one call a datagram") {
  for (const Mode mode : {Mode::kBatch, Mode::kOffload}) {
    Rig rig;
    Decapsulation decapsulation(rig.context(mode));
    rig.io.datagrams = {{{}, kNode2, ENOSYS}, {segment(0)}, {segment(1)}};
    decapsulation.carry();
    CHECK(rig.io.written.size() + rig.io.written_large.size() == 2);
    CHECK(rig.io.recvmmsg_calls == 1);
    CHECK(rig.features().state(KernelFeature::kMmsg) == FeatureState::kRefused);
  }
}

TEST_CASE("decapsulation: a recvmmsg refused to two threads at once is no reason to pause") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  rig.io.on_many = [&rig] { rig.features().refuse(KernelFeature::kMmsg, ENOSYS); };
  rig.io.datagrams = {{{}, kNode2, ENOSYS}, {segment(0)}, {segment(1)}};
  decapsulation.carry();
  CHECK(rig.io.written.size() == 2);
  CHECK(rig.events().empty());
  for (const PollCall& poll : rig.io.polls) CHECK(poll.timeout_ms < 0);
}

}  // namespace flannelette::test
