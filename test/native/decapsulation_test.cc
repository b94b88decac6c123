// The decapsulation loop against a scripted kernel: which datagrams become packets, what happens to
// the others, and how TUN write errors are survived.
#include "engine/decapsulation.h"

#include <doctest/doctest.h>

#include <random>

#include "scripted_io.h"

namespace flannelette::test {

namespace {

const std::array<Mode, 2> kModes = {Mode::kBasic, Mode::kBatch};

// From container 2 behind node 2 to container 1 here.
PacketSpec inbound() { return {.source = kContainer2, .destination = kContainer1}; }

Bytes inbound_packet(uint32_t number, size_t size = 64) {
  return numbered_packet(number, size, inbound());
}

void deliver(ScriptedIo& io, uint32_t count, size_t size = 64) {
  for (uint32_t i = 0; i < count; ++i) io.datagrams.push_back({inbound_packet(i, size)});
}

bool in_order(const std::vector<Bytes>& written, uint32_t count, size_t size = 64) {
  if (written.size() != count) return false;
  for (uint32_t i = 0; i < count; ++i)
    if (written[i] != one_hop_later(inbound_packet(i, size))) return false;
  return true;
}

// What becomes of one datagram with a good one behind it: the reason it is dropped, or none.
std::optional<DropReason> fate(const Bytes& bytes, uint32_t source, bool source_check, Mode mode) {
  Rig rig;
  Decapsulation decapsulation(rig.context(mode, source_check));
  rig.io.datagrams = {{bytes, source}, {inbound_packet(0)}};
  decapsulation.carry();
  REQUIRE(!rig.io.written.empty());
  CHECK(rig.io.written.back() == one_hop_later(inbound_packet(0)));
  CHECK(rig.io.written.size() + all_drops(decapsulation) == 2);
  CHECK(decapsulation.counters().received_packets.get() == 2);
  for (size_t i = 0; i < kDropReasons; ++i)
    if (decapsulation.counters().drops[i].get() == 1) return static_cast<DropReason>(i);
  return std::nullopt;
}

}  // namespace

TEST_CASE("decapsulation: datagrams become packets with TTL one less, in order") {
  for (const Mode mode : kModes) {
    for (const size_t size : {size_t{24}, size_t{1472}, size_t{65507}}) {
      Rig rig;
      Decapsulation decapsulation(rig.context(mode));
      deliver(rig.io, 150, size);
      decapsulation.carry();
      CHECK(in_order(rig.io.written, 150, size));
      const ThreadCounters& counters = decapsulation.counters();
      CHECK(counters.received_packets.get() == 150);
      CHECK(counters.received_bytes.get() == 150 * size);
      CHECK(counters.sent_packets.get() == 150);
      CHECK(counters.sent_bytes.get() == 150 * size);
      CHECK(counters.write_calls.get() == 150);
      CHECK(counters.ring_bytes.get() == 0);
      CHECK(counters.ring_high_water.get() > 0);
      CHECK(counters.ring_high_water.get() <= decapsulation.counters().ring_capacity.get());
      CHECK(all_drops(decapsulation) == 0);
      CHECK(rig.events().empty());
    }
  }
}

TEST_CASE("decapsulation: basic mode receives one datagram a call, batch mode up to 64") {
  {
    Rig rig;
    Decapsulation decapsulation(rig.context(Mode::kBasic));
    deliver(rig.io, 100);
    decapsulation.carry();
    CHECK(rig.io.recvmsg_calls == 101);
    CHECK(rig.io.recvmmsg_calls == 0);
    CHECK(rig.io.yields == 0);
    CHECK(decapsulation.counters().batch_sizes[0].get() == 100);
  }
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  deliver(rig.io, 100);
  decapsulation.carry();
  CHECK(rig.io.recvmsg_calls == 0);
  // Two that bring datagrams, and one that brings none before the wait and after each yield.
  CHECK(rig.io.recvmmsg_calls == 3 + rig.io.yields);
  CHECK(decapsulation.counters().read_calls.get() == rig.io.recvmmsg_calls);
  CHECK(rig.io.most_yields <= 6);
  CHECK(decapsulation.counters().batch_sizes[6].get() == 2);
}

TEST_CASE("decapsulation: 0 to 19 bytes, IPv6, garbage, bad headers never reach the TUN") {
  for (const Mode mode : kModes) {
    const Bytes good = inbound_packet(7, 64);
    for (ptrdiff_t length = 0; length < 20; ++length)
      CHECK(fate(Bytes(good.begin(), good.begin() + length), kNode2, true, mode) ==
            DropReason::kShort);
    Bytes ipv6(60, 0);
    ipv6[0] = 0x60;
    CHECK(fate(ipv6, kNode2, true, mode) == DropReason::kBadVersion);
    CHECK(fate(Bytes(1400, 0xff), kNode2, true, mode) == DropReason::kBadVersion);
    CHECK(fate(Bytes(1400, 0x00), kNode2, true, mode) == DropReason::kBadVersion);
    Bytes bytes = good;
    bytes[0] = 0x41;
    CHECK(fate(bytes, kNode2, true, mode) == DropReason::kBadHeader);
    bytes = good;
    bytes.resize(63);
    CHECK(fate(bytes, kNode2, true, mode) == DropReason::kBadLength);
    bytes = good;
    bytes[11] ^= 0xff;
    CHECK(fate(bytes, kNode2, true, mode) == DropReason::kBadChecksum);
    // Bytes behind the packet are cut off, not delivered.
    Rig rig;
    Decapsulation decapsulation(rig.context(mode));
    bytes = inbound_packet(0);
    bytes.insert(bytes.end(), 100, 0xee);
    rig.io.datagrams = {{bytes}};
    decapsulation.carry();
    CHECK(in_order(rig.io.written, 1));
  }
}

TEST_CASE("decapsulation: a short datagram is not completed with bytes of the one before it") {
  for (const Mode mode : kModes) {
    Rig rig;
    Decapsulation decapsulation(rig.context(mode));
    // A header that claims 64 bytes, cut at every length, in the slot a whole packet lay in.
    const Bytes good = inbound_packet(0, 64);
    rig.io.datagrams.push_back({good});
    bool fed = false;
    rig.io.on_poll = [&](pollfd*, int) {
      if (fed) return false;
      fed = true;
      for (ptrdiff_t length = 0; length < 64; ++length)
        rig.io.datagrams.push_back({Bytes(good.begin(), good.begin() + length)});
      return true;
    };
    decapsulation.carry();
    CHECK(rig.io.written.size() == 1);
    CHECK(drops(decapsulation, DropReason::kShort) == 20);
    CHECK(drops(decapsulation, DropReason::kBadLength) == 44);
  }
}

TEST_CASE("decapsulation: a datagram longer than the buffer is dropped whole") {
  for (const Mode mode : kModes) {
    // Cut after 65,536 bytes it would still be a right packet with padding.
    Bytes bytes = inbound_packet(1, 1000);
    bytes.resize(70000, 0xee);
    CHECK(fate(bytes, kNode2, true, mode) == DropReason::kOversize);
  }
}

TEST_CASE("decapsulation: the source check") {
  const Bytes good = inbound_packet(1);
  for (const Mode mode : kModes) {
    CHECK(fate(good, kNode2, true, mode) == std::nullopt);
    // Nobody's lease.
    CHECK(fate(good, kStranger, true, mode) == DropReason::kUnknownSource);
    CHECK(fate(good, 0, true, mode) == DropReason::kUnknownSource);
    // Another host's lease.
    CHECK(fate(good, kNode3, true, mode) == DropReason::kSourceMismatch);
    // An inner source of our own, of nobody, from outside the overlay.
    for (const uint32_t source : {kContainer1, ip(100, 96, 9, 9), ip(8, 8, 8, 8), 0U})
      CHECK(fate(numbered_packet(1, 64, {.source = source, .destination = kContainer1}), kNode2,
                 true, mode) == DropReason::kSourceMismatch);
    // A sender without a lease and an inner source without a route do not match as "none".
    CHECK(fate(numbered_packet(1, 64, {.source = ip(8, 8, 8, 8), .destination = kContainer1}), 0,
               true, mode) == DropReason::kUnknownSource);
    // Not for us: another host's subnet, outside, multicast, broadcast.
    for (const uint32_t destination :
         {kContainer3, ip(8, 8, 8, 8), ip(224, 0, 0, 1), 0xffffffffU, ip(127, 0, 0, 1)})
      CHECK(fate(numbered_packet(1, 64, {.source = kContainer2, .destination = destination}),
                 kNode2, true, mode) == DropReason::kForeignDestination);
    // The ends of our subnet are ours.
    for (const uint32_t destination : {kOwn.network, kOwn.broadcast()})
      CHECK(fate(numbered_packet(1, 64, {.source = kContainer2, .destination = destination}),
                 kNode2, true, mode) == std::nullopt);
  }
}

TEST_CASE("decapsulation: a lease holder's own address is accepted as inner source, no other is") {
  const auto from = [](uint32_t source, uint32_t destination = kContainer1) {
    return numbered_packet(1, 64, {.source = source, .destination = destination});
  };
  for (const Mode mode : kModes) {
    // A container here asked the node itself: the answer comes through the tunnel.
    CHECK(fate(from(kNode2), kNode2, true, mode) == std::nullopt);
    CHECK(fate(from(kNode3), kNode3, true, mode) == std::nullopt);
    // Another holder's address, and this host's own.
    CHECK(fate(from(kNode3), kNode2, true, mode) == DropReason::kSourceMismatch);
    CHECK(fate(from(kNode1), kNode2, true, mode) == DropReason::kSourceMismatch);
    // A sender without a lease does not become one by naming itself; nor does this host.
    CHECK(fate(from(kStranger), kStranger, true, mode) == DropReason::kUnknownSource);
    CHECK(fate(from(kNode1), kNode1, true, mode) == DropReason::kUnknownSource);
    CHECK(fate(from(0), 0, true, mode) == DropReason::kUnknownSource);
    // The destination is checked all the same.
    CHECK(fate(from(kNode2, ip(8, 8, 8, 8)), kNode2, true, mode) ==
          DropReason::kForeignDestination);
    CHECK(fate(from(kNode2, kNode1), kNode2, true, mode) == DropReason::kForeignDestination);
  }
}

TEST_CASE("decapsulation: an address that a lease covers belongs to that lease's holder alone") {
  // Node 3's PublicIP lies in the subnet that node 2 holds.
  const uint32_t inside = ip(100, 96, 2, 200);
  for (const Mode mode : kModes) {
    Rig rig;
    rig.table().publish(std::make_unique<const ForwardingTable>(
        std::vector<Route>{{{ip(100, 96, 2, 0), 24}, kNode2}, {{ip(100, 96, 3, 0), 24}, inside}}));
    Decapsulation decapsulation(rig.context(mode));
    const PacketSpec spec = {.source = inside, .destination = kContainer1};
    rig.io.datagrams = {{numbered_packet(0, 64, spec), inside}, {numbered_packet(1, 64, spec)}};
    decapsulation.carry();
    REQUIRE(rig.io.written.size() == 1);
    CHECK(packet_number(rig.io.written[0]) == 1);
    CHECK(drops(decapsulation, DropReason::kSourceMismatch) == 1);
  }
}

TEST_CASE("decapsulation: relaxed, every sender and every inner address pass, other checks stay") {
  for (const Mode mode : kModes) {
    CHECK(fate(inbound_packet(1), kStranger, false, mode) == std::nullopt);
    CHECK(fate(numbered_packet(1, 64, {.source = ip(8, 8, 8, 8), .destination = ip(9, 9, 9, 9)}),
               kStranger, false, mode) == std::nullopt);
    CHECK(fate(Bytes(19, 0x45), kStranger, false, mode) == DropReason::kShort);
    Bytes bytes = inbound_packet(1);
    bytes[10] ^= 1;
    CHECK(fate(bytes, kStranger, false, mode) == DropReason::kBadChecksum);
    CHECK(fate(numbered_packet(1, 64, {.ttl = 1}), kStranger, false, mode) ==
          DropReason::kTtlExceeded);
  }
}

TEST_CASE("decapsulation: a refused sender is reported, within the rate, and gets no answer") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  for (uint32_t i = 0; i < 2000; ++i)
    rig.io.datagrams.push_back(
        {numbered_packet(i, 64, {.source = kContainer2, .destination = kContainer1, .ttl = 1}),
         kStranger});
  const uint64_t start = monotonic_ns();
  decapsulation.carry();
  const uint64_t elapsed_ms = (monotonic_ns() - start) / 1'000'000 + 1;
  CHECK(drops(decapsulation, DropReason::kUnknownSource) == 2000);
  CHECK(rig.io.raw.empty());
  CHECK(rig.io.written.empty());
  const auto events = rig.events();
  CHECK(events.size() >= 10);
  CHECK(events.size() <= 10 + elapsed_ms / 100 + 1);
  for (const EventRecord& event : events) {
    CHECK(event.type == EventType::kDatagramRefused);
    CHECK(event.address == kStranger);
    CHECK(event.detail == 0);
  }
}

TEST_CASE(
    "decapsulation: refusals of hosts with a lease and of others are told and counted apart") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  const PacketSpec foreign{.source = kContainer1, .destination = kContainer1};
  for (uint32_t i = 0; i < 100; ++i) {
    rig.io.datagrams.push_back({numbered_packet(i, 64, foreign), kNode2});
    rig.io.datagrams.push_back({numbered_packet(i, 64, foreign), kStranger});
  }
  decapsulation.carry();
  CHECK(drops(decapsulation, DropReason::kSourceMismatch) == 100);
  CHECK(drops(decapsulation, DropReason::kUnknownSource) == 100);
  const auto events = rig.events();
  std::array<uint32_t, 2> told{};
  for (const EventRecord& event : events) {
    REQUIRE(event.detail <= 1);
    CHECK(event.address == (event.detail == 1 ? kNode2 : kStranger));
    told[event.detail] += 1 + event.repeated;
  }
  CHECK(told[0] >= 10);
  CHECK(told[0] <= 100);
  CHECK(told[1] >= 10);
  CHECK(told[1] <= 100);
}

TEST_CASE("decapsulation: TTL 0 and 1 are dropped with Time Exceeded, TTL 2 is delivered with 1") {
  for (const uint8_t ttl : {0, 1, 2}) {
    Rig rig;
    Decapsulation decapsulation(rig.context(Mode::kBatch));
    PacketSpec spec = inbound();
    spec.ttl = ttl;
    const Bytes packet = numbered_packet(0, 700, spec);
    rig.io.datagrams = {{packet}};
    decapsulation.carry();
    CAPTURE(ttl);
    if (ttl == 2) {
      REQUIRE(rig.io.written.size() == 1);
      CHECK(rig.io.written[0][8] == 1);
      CHECK(rig.io.raw.empty());
      continue;
    }
    CHECK(rig.io.written.empty());
    CHECK(drops(decapsulation, DropReason::kTtlExceeded) == 1);
    CHECK(decapsulation.counters().icmp_time_exceeded.get() == 1);
    REQUIRE(rig.io.raw.size() == 1);
    const Bytes& reply = rig.io.raw[0].bytes;
    CHECK(rig.io.raw[0].destination == kContainer2);
    CHECK(reply.size() == 576);
    CHECK(reply[20] == 11);
    CHECK(long_at(reply, 12) == kTunAddress);
    CHECK(std::equal(reply.begin() + 28, reply.end(), packet.begin()));
  }
}

TEST_CASE("decapsulation: EINTR of receive and write only tries again") {
  for (const Mode mode : kModes) {
    Rig rig;
    Decapsulation decapsulation(rig.context(mode));
    rig.io.datagrams.push_back({{}, 0, EINTR});
    deliver(rig.io, 20);
    rig.io.datagrams.push_back({{}, 0, EINTR});
    rig.io.write_results = {0, -EINTR, -EINTR, 0, -EINTR};
    decapsulation.carry();
    CHECK(in_order(rig.io.written, 20));
    CHECK(all_drops(decapsulation) == 0);
  }
}

TEST_CASE("decapsulation: a TUN write that would block waits once, then goes on") {
  for (const Mode mode : kModes) {
    Rig rig;
    Decapsulation decapsulation(rig.context(mode));
    deliver(rig.io, 5);
    rig.io.write_results = {0, -EAGAIN, 0, 0, -EAGAIN};
    decapsulation.carry();
    CHECK(in_order(rig.io.written, 5));
    CHECK(all_drops(decapsulation) == 0);
    const auto waits =
        std::count_if(rig.io.polls.begin(), rig.io.polls.end(), [](const auto& poll) {
          return poll.tun == POLLOUT && poll.udp == 0 && poll.timeout_ms > 0 &&
                 poll.timeout_ms <= 1000;
        });
    CHECK(waits == 2);
  }
}

TEST_CASE("decapsulation: a TUN that takes nothing drops each packet after one bounded wait") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  deliver(rig.io, 10);
  for (int i = 0; i < 20; ++i) rig.io.write_results.push_back(-EAGAIN);
  decapsulation.carry();
  CHECK(rig.io.written.empty());
  CHECK(drops(decapsulation, DropReason::kWriteFailed) == 10);
  CHECK(rig.io.write_calls == 20);
  CHECK(rig.events().empty());
}

TEST_CASE("decapsulation: TUN write errors drop exactly one packet under their reason and go on") {
  struct Case {
    int error;
    DropReason reason;
  };
  for (const Case each :
       {Case{EIO, DropReason::kDeviceDown}, Case{EINVAL, DropReason::kWriteFailed},
        Case{ENOMEM, DropReason::kWriteFailed}, Case{ENOBUFS, DropReason::kWriteFailed}}) {
    for (const Mode mode : kModes) {
      Rig rig;
      Decapsulation decapsulation(rig.context(mode));
      deliver(rig.io, 10);
      rig.io.write_results = {0, 0, -each.error};
      decapsulation.carry();
      CAPTURE(each.error);
      REQUIRE(rig.io.written.size() == 9);
      for (uint32_t i = 0; i < 9; ++i)
        CHECK(packet_number(rig.io.written[i]) == (i < 2 ? i : i + 1));
      CHECK(drops(decapsulation, each.reason) == 1);
      CHECK(all_drops(decapsulation) == 1);
      CHECK(decapsulation.counters().sent_packets.get() == 9);
      CHECK(rig.events().empty());
    }
  }
}

TEST_CASE(
    "decapsulation: any mix of receive and write errors keeps order and loses only what it "
    "counts") {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    for (const Mode mode : kModes) {
      Rig rig;
      Decapsulation decapsulation(rig.context(mode));
      const uint32_t count = 500;
      for (uint32_t i = 0; i < count; ++i) {
        rig.io.datagrams.push_back({inbound_packet(i, 24 + random() % 1449)});
        if (random() % 20 == 0)
          rig.io.datagrams.push_back({{}, 0, random() % 2 ? EINTR : ECONNREFUSED});
      }
      const std::array<int, 4> errors = {EINTR, EAGAIN, EIO, EINVAL};
      for (int i = 0; i < 300; ++i)
        rig.io.write_results.push_back(random() % 2 ? 0 : -errors[random() % errors.size()]);
      decapsulation.carry();
      size_t wrong = 0;
      for (size_t i = 0; i < rig.io.written.size(); ++i) {
        if (i > 0 && packet_number(rig.io.written[i]) <= packet_number(rig.io.written[i - 1]))
          ++wrong;
        if (rig.io.written[i] != one_hop_later(inbound_packet(packet_number(rig.io.written[i]),
                                                              rig.io.written[i].size())))
          ++wrong;
      }
      CAPTURE(seed);
      CHECK(wrong == 0);
      CHECK(rig.io.written.size() + all_drops(decapsulation) == count);
      CHECK(decapsulation.counters().sent_packets.get() == rig.io.written.size());
      CHECK(!rig.io.overrun);
    }
  }
}

TEST_CASE("decapsulation: a deleted TUN ends the loop with one fault event and no spin") {
  for (const int error : {EBADFD, EBADF, ENODEV}) {
    for (const Mode mode : kModes) {
      Rig rig;
      rig.io.call_limit = 20;
      Decapsulation decapsulation(rig.context(mode));
      deliver(rig.io, 500);
      for (int i = 0; i < 500; ++i) rig.io.write_results.push_back(-error);
      decapsulation.carry();
      CHECK(!rig.io.overrun);
      CHECK(rig.io.write_calls == 1);
      CHECK(!rig.io.stop);
      const auto events = rig.events();
      REQUIRE(events.size() == 1);
      CHECK(events[0].type == EventType::kFault);
      CHECK(events[0].detail == static_cast<uint32_t>(error));
      CHECK(events[0].address == static_cast<uint32_t>(FaultSource::kTun));
    }
  }
  // Found out while it waits for the TUN to take a packet.
  Rig rig;
  rig.io.call_limit = 20;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  deliver(rig.io, 3);
  for (int i = 0; i < 50; ++i) rig.io.write_results.push_back(-EAGAIN);
  for (int i = 0; i < 50; ++i) rig.io.poll_answers.push_back({POLLERR, 0});
  decapsulation.carry();
  CHECK(!rig.io.overrun);
  CHECK(rig.events().size() == 1);
}

TEST_CASE("decapsulation: a socket that is gone ends the loop with one fault event") {
  for (const int error : {EBADF, ENOTSOCK}) {
    for (const Mode mode : kModes) {
      Rig rig;
      rig.io.call_limit = 20;
      Decapsulation decapsulation(rig.context(mode));
      for (int i = 0; i < 50; ++i) rig.io.datagrams.push_back({{}, 0, error});
      decapsulation.carry();
      CHECK(!rig.io.overrun);
      const auto events = rig.events();
      REQUIRE(events.size() == 1);
      CHECK(events[0].address == static_cast<uint32_t>(FaultSource::kUdp));
      CHECK(events[0].detail == static_cast<uint32_t>(error));
    }
  }
  Rig rig;
  rig.io.call_limit = 20;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  for (int i = 0; i < 50; ++i) rig.io.poll_answers.push_back({0, POLLNVAL});
  decapsulation.carry();
  CHECK(!rig.io.overrun);
  CHECK(rig.events().size() == 1);
}

TEST_CASE("decapsulation: receive errors that may pass are waited out, not spun on") {
  for (const Mode mode : kModes) {
    Rig rig;
    Decapsulation decapsulation(rig.context(mode));
    for (int i = 0; i < 5; ++i) rig.io.datagrams.push_back({{}, 0, ENOMEM});
    deliver(rig.io, 3);
    decapsulation.carry();
    CHECK(in_order(rig.io.written, 3));
    CHECK(std::count_if(rig.io.polls.begin(), rig.io.polls.end(), [](const PollCall& poll) {
            return poll.tun == 0 && poll.udp == 0 && poll.timeout_ms > 0;
          }) == 5);
    CHECK(rig.events().empty());
  }
}

TEST_CASE("decapsulation: a lease that comes while it waits is trusted from then on") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  rig.io.datagrams = {{inbound_packet(0), kStranger}};
  bool published = false;
  rig.io.on_poll = [&](pollfd*, int) {
    if (published) return false;
    published = true;
    rig.table().publish(std::make_unique<const ForwardingTable>(
        std::vector<Route>{{{ip(100, 96, 2, 0), 24}, kStranger}}));
    CHECK(rig.table().retired() == 0);
    rig.io.datagrams = {{inbound_packet(0), kStranger}, {inbound_packet(1), kNode2}};
    return true;
  };
  decapsulation.carry();
  CHECK(in_order(rig.io.written, 1));
  CHECK(drops(decapsulation, DropReason::kUnknownSource) == 2);
}

}  // namespace flannelette::test
