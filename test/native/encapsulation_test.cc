// The encapsulation loop against a scripted kernel: what it sends, what it drops and why, and that
// nothing is lost, doubled, reordered or spun on.
#include "engine/encapsulation.h"

#include <doctest/doctest.h>

#include <map>
#include <random>
#include <string>

#include "scripted_io.h"

namespace flannelette::test {

namespace {

const std::array<Mode, 2> kModes = {Mode::kBasic, Mode::kBatch};

uint64_t batches(const Direction& direction) {
  uint64_t sum = 0;
  for (const Counter& counter : direction.counters().batch_sizes) sum += counter.get();
  return sum;
}

}  // namespace

TEST_CASE("encapsulation: packets go to their next hops with TTL one less, nothing else changed") {
  for (const Mode mode : kModes) {
    Rig rig;
    Encapsulation encapsulation(rig.context(mode));
    rig.io.tun_reads = {{numbered_packet(0, 24), 0},
                        {numbered_packet(1, 1472, {.destination = kContainer3, .ttl = 255}), 0},
                        {numbered_packet(2, 100, {.ttl = 2, .protocol = 6, .options = 8}), 0},
                        {numbered_packet(3, 65515), 0}};
    encapsulation.carry();
    REQUIRE(rig.io.sent.size() == 4);
    CHECK(rig.io.sent[0].bytes == one_hop_later(numbered_packet(0, 24)));
    CHECK(rig.io.sent[0].destination == kNode2);
    CHECK(rig.io.sent[1].bytes ==
          one_hop_later(numbered_packet(1, 1472, {.destination = kContainer3, .ttl = 255})));
    CHECK(rig.io.sent[1].destination == kNode3);
    CHECK(rig.io.sent[2].bytes ==
          one_hop_later(numbered_packet(2, 100, {.ttl = 2, .protocol = 6, .options = 8})));
    CHECK(rig.io.sent[3].bytes == one_hop_later(numbered_packet(3, 65515)));
    for (const SentDatagram& datagram : rig.io.sent) CHECK(datagram.port == 8285);
    const ThreadCounters& counters = encapsulation.counters();
    CHECK(counters.received_packets.get() == 4);
    CHECK(counters.sent_packets.get() == 4);
    CHECK(counters.sent_bytes.get() == counters.received_bytes.get());
    CHECK(counters.ring_bytes.get() == 0);
    CHECK(counters.ring_high_water.get() >=
          (mode == Mode::kBasic ? 65515U : 24 + 1472 + 108 + 65515U));
    CHECK(all_drops(encapsulation) == 0);
    CHECK(rig.events().empty());
  }
}

TEST_CASE("encapsulation: padding behind a packet is not sent") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  Bytes padded = numbered_packet(0, 40);
  padded.insert(padded.end(), 6, 0xee);
  rig.io.tun_reads = {{padded, 0}, {numbered_packet(1, 40), 0}};
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 2, 40));
}

TEST_CASE("encapsulation: basic mode makes one read and one send a packet, batch mode few sends") {
  {
    Rig rig;
    Encapsulation encapsulation(rig.context(Mode::kBasic));
    offer(rig.io, 200);
    encapsulation.carry();
    CHECK(in_order(rig.io.sent, 200));
    CHECK(rig.io.sendmsg_calls == 200);
    CHECK(rig.io.sendmmsg_calls == 0);
    CHECK(rig.io.reads == 201);
    CHECK(encapsulation.counters().read_calls.get() == 201);
    CHECK(encapsulation.counters().write_calls.get() == 200);
    CHECK(encapsulation.counters().batch_sizes[0].get() == 200);
    CHECK(rig.io.yields == 0);
  }
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  offer(rig.io, 200);
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 200));
  CHECK(rig.io.sendmsg_calls == 0);
  CHECK(rig.io.offered == std::vector<size_t>{64, 64, 64, 8});
  CHECK(rig.io.most_yields <= 6);
  CHECK(encapsulation.counters().batch_sizes[6].get() == 3);
  CHECK(encapsulation.counters().batch_sizes[3].get() == 1);
  CHECK(encapsulation.counters().poll_calls.get() == rig.io.polls.size());
}

TEST_CASE("encapsulation: a partial sendmmsg goes on with exactly what was not sent") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  offer(rig.io, 64);
  rig.io.send_results = {1, 5, 57};
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 64));
  CHECK(rig.io.offered == std::vector<size_t>{64, 63, 58, 1});
  CHECK(encapsulation.counters().sent_packets.get() == 64);
  CHECK(batches(encapsulation) == 4);
}

TEST_CASE("encapsulation: EAGAIN in the middle of a batch waits for POLLOUT and loses nothing") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  offer(rig.io, 40);
  rig.io.send_results = {10, -EAGAIN, -EAGAIN, 7, -EAGAIN};
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 40));
  REQUIRE(!rig.io.polls.empty());
  CHECK(rig.io.polls[0].udp == POLLOUT);
  CHECK(rig.io.polls[0].tun == POLLIN);
  CHECK(rig.io.polls[0].timeout_ms == -1);
  CHECK(all_drops(encapsulation) == 0);
}

TEST_CASE("encapsulation: EINTR of read, send and poll only tries again") {
  for (const Mode mode : kModes) {
    Rig rig;
    Encapsulation encapsulation(rig.context(mode));
    offer(rig.io, 30);
    rig.io.tun_reads.insert(rig.io.tun_reads.begin() + 3, {{}, EINTR});
    rig.io.tun_reads.insert(rig.io.tun_reads.begin() + 20, {{}, EINTR});
    rig.io.send_results = {-EINTR, -EINTR, 1, -EINTR};
    rig.io.poll_answers = {{0, 0, -EINTR}, {0, 0, -EINTR}};
    encapsulation.carry();
    CHECK(in_order(rig.io.sent, 30));
    CHECK(all_drops(encapsulation) == 0);
    CHECK(rig.events().empty());
    CHECK(!rig.io.overrun);
  }
}

TEST_CASE("encapsulation: a refused send drops exactly one packet under its reason and goes on") {
  const std::map<int, DropReason> reasons = {
      {ENOBUFS, DropReason::kSendBufferFull},      {ENOMEM, DropReason::kSendBufferFull},
      {EPERM, DropReason::kSendRefused},           {EACCES, DropReason::kSendRefused},
      {ENETUNREACH, DropReason::kSendUnreachable}, {EHOSTUNREACH, DropReason::kSendUnreachable},
      {ENETDOWN, DropReason::kSendUnreachable},    {EMSGSIZE, DropReason::kSendTooBig},
      {EINVAL, DropReason::kSendFailed},           {EIO, DropReason::kSendFailed}};
  for (const auto& [number, reason] : reasons) {
    const int error = number;  // doctest captures it, clang 14 no structured binding
    for (const Mode mode : kModes) {
      Rig rig;
      Encapsulation encapsulation(rig.context(mode));
      offer(rig.io, 10);
      // The first three go, the fourth is refused.
      rig.io.send_results =
          mode == Mode::kBasic ? std::deque<int>{1, 1, 1, -error} : std::deque<int>{3, -error};
      encapsulation.carry();
      CAPTURE(error);
      REQUIRE(rig.io.sent.size() == 9);
      for (uint32_t i = 0; i < 9; ++i)
        CHECK(packet_number(rig.io.sent[i].bytes) == (i < 3 ? i : i + 1));
      CHECK(drops(encapsulation, reason) == 1);
      CHECK(all_drops(encapsulation) == 1);
      CHECK(encapsulation.counters().sent_packets.get() == 9);
      CHECK(rig.events().empty());
    }
  }
}

TEST_CASE(
    "encapsulation: any mix of partial sends and errors keeps order, loses and doubles nothing") {
  for (uint32_t seed = 0; seed < 40; ++seed) {
    std::mt19937 random(seed);
    for (const Mode mode : kModes) {
      Rig rig;
      Encapsulation encapsulation(rig.context(mode));
      const uint32_t count = 600;
      for (uint32_t i = 0; i < count; ++i) {
        rig.io.tun_reads.push_back({numbered_packet(i, 24 + random() % 1449), 0});
        if (random() % 16 == 0) rig.io.tun_reads.push_back({{}, random() % 2 ? EINTR : EAGAIN});
      }
      const auto offered = rig.io.tun_reads;
      const std::array<int, 7> errors = {EAGAIN, EINTR, EPERM, ENOBUFS, EMSGSIZE, ENETUNREACH, EIO};
      for (int i = 0; i < 400; ++i)
        rig.io.send_results.push_back(random() % 2 ? static_cast<int>(1 + random() % 64)
                                                   : -errors[random() % errors.size()]);
      encapsulation.carry();

      std::vector<Bytes> dropped;
      for (const Refusal& refusal : rig.io.refused) dropped.push_back(refusal.bytes);
      size_t at_sent = 0;
      size_t at_dropped = 0;
      size_t wrong = 0;
      for (const TunRead& read : offered) {
        if (read.error != 0) continue;
        const Bytes expected = one_hop_later(read.bytes);
        if (at_sent < rig.io.sent.size() && rig.io.sent[at_sent].bytes == expected)
          ++at_sent;
        else if (at_dropped < dropped.size() && dropped[at_dropped] == expected)
          ++at_dropped;
        else
          ++wrong;
      }
      CAPTURE(seed);
      CHECK(wrong == 0);
      CHECK(at_sent == rig.io.sent.size());
      CHECK(at_dropped == dropped.size());
      CHECK(at_sent + at_dropped == count);
      CHECK(all_drops(encapsulation) == dropped.size());
      CHECK(encapsulation.counters().sent_packets.get() == rig.io.sent.size());
      CHECK(!rig.io.overrun);
    }
  }
}

TEST_CASE("encapsulation: a full ring stops reading until the socket takes packets again") {
  for (const Mode mode : kModes) {
    for (const size_t size : {size_t{64}, size_t{1472}, size_t{65000}}) {
      Rig rig;
      Encapsulation encapsulation(rig.context(mode));
      const uint32_t count = size == 64 ? 3000 : size == 1472 ? 600 : 100;
      offer(rig.io, count, size);
      rig.io.send_blocked = true;
      size_t reads_when_full = 0;
      uint64_t used_when_full = 0;
      rig.io.on_poll = [&](pollfd*, int) {
        if (!rig.io.send_blocked) return false;
        // Nobody waits before the ring is full: the TUN still has packets.
        reads_when_full = rig.io.reads;
        used_when_full = encapsulation.counters().ring_high_water.get();
        CHECK(rig.io.polls.back().tun == 0);
        CHECK(rig.io.polls.back().udp == POLLOUT);
        CHECK(rig.io.polls.back().timeout_ms == -1);
        rig.io.send_blocked = false;
        return true;
      };
      encapsulation.carry();
      CAPTURE(size);
      CHECK(reads_when_full > 0);
      CHECK(encapsulation.counters().ring_capacity.get() == kRingBytesMin);
      CHECK(reads_when_full <= 2048);
      CHECK(used_when_full == reads_when_full * size);
      CHECK(used_when_full <= encapsulation.counters().ring_capacity.get());
      CHECK(encapsulation.counters().ring_high_water.get() <=
            encapsulation.counters().ring_capacity.get());
      CHECK(in_order(rig.io.sent, count, size));
      CHECK(all_drops(encapsulation) == 0);
    }
  }
}

TEST_CASE("encapsulation: bytes that are no packet are dropped and counted, the next is carried") {
  struct Case {
    std::string what;
    Bytes bytes;
    DropReason reason;
  };
  Bytes ipv6(60, 0);
  ipv6[0] = 0x60;
  Bytes bad_header = numbered_packet(0);
  bad_header[0] = 0x44;
  Bytes bad_length = numbered_packet(0);
  put_word(bad_length, 2, 65);
  Bytes bad_checksum = numbered_packet(0);
  bad_checksum[10] ^= 1;
  const std::vector<Case> cases = {{"nothing", {}, DropReason::kShort},
                                   {"19 bytes", Bytes(19, 0x45), DropReason::kShort},
                                   {"IPv6", ipv6, DropReason::kBadVersion},
                                   {"garbage", Bytes(100, 0xff), DropReason::kBadVersion},
                                   {"IHL 4", bad_header, DropReason::kBadHeader},
                                   {"cut", bad_length, DropReason::kBadLength},
                                   {"checksum", bad_checksum, DropReason::kBadChecksum}};
  for (const Case& each : cases) {
    for (const Mode mode : kModes) {
      Rig rig;
      Encapsulation encapsulation(rig.context(mode));
      rig.io.tun_reads = {{each.bytes, 0}, {numbered_packet(0), 0}};
      encapsulation.carry();
      CAPTURE(each.what);
      CHECK(in_order(rig.io.sent, 1));
      CHECK(drops(encapsulation, each.reason) == 1);
      CHECK(all_drops(encapsulation) == 1);
      CHECK(rig.io.raw.empty());
      CHECK(encapsulation.counters().received_packets.get() == 2);
    }
  }
}

TEST_CASE("encapsulation: TTL 0 and 1 are dropped with Time Exceeded, TTL 2 is carried") {
  for (const uint8_t ttl : {0, 1, 2}) {
    Rig rig;
    Encapsulation encapsulation(rig.context(Mode::kBatch));
    const Bytes packet = numbered_packet(0, 64, {.ttl = ttl});
    rig.io.tun_reads = {{packet, 0}};
    encapsulation.carry();
    CAPTURE(ttl);
    CHECK(rig.io.sent.size() == (ttl == 2 ? 1 : 0));
    CHECK(drops(encapsulation, DropReason::kTtlExceeded) == (ttl == 2 ? 0 : 1));
    CHECK(encapsulation.counters().icmp_time_exceeded.get() == (ttl == 2 ? 0 : 1));
    if (ttl == 2) continue;
    REQUIRE(rig.io.raw.size() == 1);
    const Bytes& reply = rig.io.raw[0].bytes;
    CHECK(rig.io.raw[0].destination == kContainer1);
    CHECK(reply[20] == 11);
    CHECK(reply[21] == 0);
    CHECK(long_at(reply, 12) == kGateway1);
    CHECK(long_at(reply, 16) == kContainer1);
    // The original is quoted as it came, TTL included.
    CHECK(Bytes(reply.begin() + 28, reply.end()) == packet);
  }
}

TEST_CASE("encapsulation: no route is answered with net-unreachable and reported") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  const uint32_t nowhere = ip(100, 96, 77, 7);
  rig.io.tun_reads = {{numbered_packet(0, 64, {.destination = nowhere}), 0},
                      {numbered_packet(1, 64, {.destination = nowhere, .ttl = 1}), 0},
                      {numbered_packet(0), 0}};
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 1));
  CHECK(drops(encapsulation, DropReason::kNoRoute) == 2);
  CHECK(all_drops(encapsulation) == 2);
  REQUIRE(rig.io.raw.size() == 2);
  CHECK(rig.io.raw[0].bytes[20] == 3);
  CHECK(rig.io.raw[0].bytes[21] == 0);
  CHECK(encapsulation.counters().icmp_unreachable.get() == 2);
  const auto events = rig.events();
  REQUIRE(events.size() == 2);
  CHECK(events[0].type == EventType::kMiss);
  CHECK(events[0].address == nowhere);
}

TEST_CASE("encapsulation: a flood without route is answered and reported within the limits") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  for (uint32_t i = 0; i < 5000; ++i)
    rig.io.tun_reads.push_back({numbered_packet(i, 64, {.destination = ip(100, 96, 200, 1)}), 0});
  const uint64_t start = monotonic_ns();
  encapsulation.carry();
  const uint64_t elapsed_ms = (monotonic_ns() - start) / 1'000'000 + 1;
  const ThreadCounters& counters = encapsulation.counters();
  CHECK(drops(encapsulation, DropReason::kNoRoute) == 5000);
  CHECK(rig.io.raw.size() >= 50);
  CHECK(rig.io.raw.size() <= 50 + elapsed_ms / 10 + 1);
  CHECK(counters.icmp_unreachable.get() == rig.io.raw.size());
  CHECK(counters.icmp_suppressed.get() == 5000 - rig.io.raw.size());
  const size_t events = rig.events().size();
  CHECK(events >= 10);
  CHECK(events <= 10 + elapsed_ms / 100 + 1);
}

TEST_CASE(
    "encapsulation: errors about errors, multicast and fragments are not sent, only counted") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  rig.io.tun_reads = {
      {make_packet({.ttl = 1, .protocol = 1, .payload = {3, 0, 0, 0, 0, 0, 0, 0}}), 0},
      {make_packet({.destination = ip(224, 0, 0, 9)}), 0},
      {make_packet({.ttl = 1, .fragment = 0x2010}), 0},
      {make_packet({.destination = kOverlay.broadcast()}), 0}};
  encapsulation.carry();
  CHECK(rig.io.raw.empty());
  CHECK(rig.io.sent.empty());
  CHECK(encapsulation.counters().icmp_suppressed.get() == 4);
  CHECK(all_drops(encapsulation) == 4);
}

TEST_CASE("encapsulation: an ICMP error the kernel refuses is counted and does no harm") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  rig.io.tun_reads = {{numbered_packet(9, 64, {.ttl = 1}), 0}, {numbered_packet(0), 0}};
  rig.io.raw_results = {-EPERM};
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 1));
  CHECK(encapsulation.counters().icmp_suppressed.get() == 1);
  CHECK(encapsulation.counters().icmp_time_exceeded.get() == 0);
}

TEST_CASE("encapsulation: a new table takes effect at the next fill") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  rig.io.tun_reads = {{numbered_packet(0), 0}};
  bool replaced = false;
  rig.io.on_poll = [&](pollfd*, int) {
    if (replaced) return false;
    replaced = true;
    rig.table().publish(std::make_unique<const ForwardingTable>(
        std::vector<Route>{{{ip(100, 96, 2, 0), 24}, kNode3}}));
    // The reader has left before it waits, so nothing is held.
    CHECK(rig.table().retired() == 0);
    rig.io.tun_reads.push_back({numbered_packet(1), 0});
    return true;
  };
  encapsulation.carry();
  REQUIRE(rig.io.sent.size() == 2);
  CHECK(rig.io.sent[0].destination == kNode2);
  CHECK(rig.io.sent[1].destination == kNode3);
}

TEST_CASE("encapsulation: a deleted TUN ends the loop with one fault event and no spin") {
  struct Case {
    std::string what;
    int read_error;  // 0: EAGAIN, and the poll tells
    short revents;
    uint32_t detail;
  };
  for (const Case& each :
       {Case{"POLLERR", 0, POLLERR, EBADFD}, Case{"POLLNVAL", 0, POLLNVAL, EBADFD},
        Case{"POLLERR and POLLHUP", 0, POLLERR | POLLHUP, EBADFD},
        Case{"EBADFD", EBADFD, 0, EBADFD}, Case{"EBADF", EBADF, 0, EBADF},
        Case{"ENODEV", ENODEV, 0, ENODEV}}) {
    for (const Mode mode : kModes) {
      Rig rig;
      rig.io.call_limit = 20;
      Encapsulation encapsulation(rig.context(mode));
      for (int i = 0; each.read_error != 0 && i < 100; ++i)
        rig.io.tun_reads.push_back({{}, each.read_error});
      if (each.revents != 0)
        for (int i = 0; i < 100; ++i) rig.io.poll_answers.push_back({each.revents, 0});
      encapsulation.carry();
      CAPTURE(each.what);
      CHECK(!rig.io.overrun);
      // A read and a poll, and a few yields with a read each before it.
      CHECK(rig.io.calls <= 2 + 2 * rig.io.yields);
      CHECK(rig.io.yields <= 6);
      CHECK(!rig.io.stop);
      const auto events = rig.events();
      REQUIRE(events.size() == 1);
      CHECK(events[0].type == EventType::kFault);
      CHECK(events[0].detail == each.detail);
      CHECK(events[0].address == static_cast<uint32_t>(FaultSource::kTun));
    }
  }
}

TEST_CASE(
    "encapsulation: packets that are still in the TUN's queue are read before POLLERR counts") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  rig.io.poll_answers = {{POLLIN | POLLERR, 0}, {POLLERR, 0}};
  bool first = true;
  rig.io.on_poll = [&](pollfd*, int) {
    if (first) offer(rig.io, 5);
    first = false;
    return false;
  };
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 5));
  CHECK(rig.events().size() == 1);
}

TEST_CASE("encapsulation: a socket that is gone ends the loop with one fault event") {
  for (const int error : {EBADF, ENOTSOCK}) {
    for (const Mode mode : kModes) {
      Rig rig;
      rig.io.call_limit = 200;
      Encapsulation encapsulation(rig.context(mode));
      offer(rig.io, 10);
      for (int i = 0; i < 100; ++i) rig.io.send_results.push_back(-error);
      encapsulation.carry();
      CHECK(!rig.io.overrun);
      CHECK(rig.io.refused.size() == 1);
      CHECK(drops(encapsulation, DropReason::kSendFailed) == 1);
      const auto events = rig.events();
      REQUIRE(events.size() == 1);
      CHECK(events[0].type == EventType::kFault);
      CHECK(events[0].address == static_cast<uint32_t>(FaultSource::kUdp));
      CHECK(events[0].detail == static_cast<uint32_t>(error));
    }
  }
  Rig rig;
  rig.io.call_limit = 200;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  offer(rig.io, 1);
  rig.io.send_blocked = true;
  rig.io.poll_answers = {{0, POLLNVAL}};
  encapsulation.carry();
  CHECK(!rig.io.overrun);
  REQUIRE(rig.events().size() == 1);
}

TEST_CASE("encapsulation: read errors that may pass are waited out, not spun on") {
  for (const int error : {ENOMEM, EIO, EFAULT}) {
    Rig rig;
    Encapsulation encapsulation(rig.context(Mode::kBatch));
    for (int i = 0; i < 5; ++i) rig.io.tun_reads.push_back({{}, error});
    offer(rig.io, 3);
    encapsulation.carry();
    CAPTURE(error);
    CHECK(in_order(rig.io.sent, 3));
    CHECK(std::count_if(rig.io.polls.begin(), rig.io.polls.end(), [](const PollCall& poll) {
            return poll.tun == 0 && poll.udp == 0 && poll.timeout_ms > 0;
          }) == 5);
    CHECK(rig.events().empty());
  }
}

TEST_CASE("encapsulation: what was read before an error is still sent") {
  Rig rig;
  Encapsulation encapsulation(rig.context(Mode::kBatch));
  offer(rig.io, 7);
  rig.io.tun_reads.push_back({{}, ENOMEM});
  encapsulation.carry();
  CHECK(in_order(rig.io.sent, 7));
}

TEST_CASE("encapsulation: a stop under load takes effect within a batch") {
  for (const Mode mode : kModes) {
    Rig rig;
    Encapsulation encapsulation(rig.context(mode));
    offer(rig.io, 5000);
    rig.io.stop = true;
    encapsulation.carry();
    CHECK(rig.io.calls == 0);
    rig.io.stop = false;
    rig.io.call_limit = 1000;  // sets stop in the midst of it
    encapsulation.carry();
    CHECK(rig.io.calls <= 1000 + 2 * kBatchMax);
    CHECK(rig.io.sent.size() < 5000);
  }
}

}  // namespace flannelette::test
