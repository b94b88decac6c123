// A kernel, a tracer or a sandbox out of order: calls that always ask to be made again although
// poll says ready. The loops stay alive, stop when told to, and make no more than a few hundred
// calls a second; what is in order goes on.
#include <doctest/doctest.h>

#include "engine/decapsulation.h"
#include "engine/encapsulation.h"
#include "scripted_io.h"

namespace flannelette::test {

namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kSeconds = 10;
// Of all kinds in a second, by one thread; a loop that spins makes tens of thousands.
constexpr size_t kCallsMax = 500;
constexpr std::array<Mode, 3> kModes = {Mode::kBasic, Mode::kBatch, Mode::kOffload};

using Storm = ScriptedIo::Storm;

void set(ScriptedIo& io, const Storm& storm) {
  io.storm = storm;
  io.storm.until_ns = io.now + kSeconds * kSecond;
}

Bytes arriving(uint32_t number) {
  return numbered_packet(number, 64, {.source = kContainer2, .destination = kContainer1});
}

void check_calm(const ScriptedIo& io) {
  CHECK(!io.overrun);
  CHECK(io.calls < kCallsMax * kSeconds);
}

}  // namespace

TEST_CASE("storm: reads of the TUN that say EINTR, EAGAIN or nothing though poll says readable") {
  for (const Mode mode : kModes) {
    for (const int result : {-EINTR, -EAGAIN, 0}) {
      CAPTURE(result);
      Rig rig;
      Encapsulation encapsulation(rig.context(mode));
      set(rig.io, {.tun_read = result, .always_ready = true});
      encapsulation.carry();
      check_calm(rig.io);
      CHECK(rig.events().empty());
    }
  }
}

TEST_CASE("storm: receives that say EINTR, EAGAIN or nothing though poll says readable") {
  for (const Mode mode : kModes) {
    for (const int result : {-EINTR, -EAGAIN}) {
      CAPTURE(result);
      Rig rig;
      Decapsulation decapsulation(rig.context(mode));
      set(rig.io, {.receive = result, .always_ready = true});
      decapsulation.carry();
      check_calm(rig.io);
      CHECK(rig.events().empty());
    }
  }
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  set(rig.io, {.receive = 0, .always_ready = true});
  decapsulation.carry();
  check_calm(rig.io);
}

TEST_CASE("storm: an idle socket whose receive is always interrupted is left to poll") {
  for (const Mode mode : kModes) {
    Rig rig;
    rig.io.call_limit = 100;
    Decapsulation decapsulation(rig.context(mode));
    set(rig.io, {.receive = -EINTR});
    decapsulation.carry();
    CHECK(!rig.io.overrun);
    CHECK(rig.io.polls.size() == 1);
  }
}

TEST_CASE("storm: sends that say EINTR or EAGAIN though poll says writable; nothing is lost") {
  for (const Mode mode : kModes) {
    for (const int result : {-EINTR, -EAGAIN}) {
      Rig rig;
      Encapsulation encapsulation(rig.context(mode, true, nullptr, kAllFeatures));
      offer(rig.io, 100);
      set(rig.io, {.send = result, .always_ready = true});
      encapsulation.carry();
      check_calm(rig.io);
      CHECK(all_drops(encapsulation) == 0);
      // And when it is over everything is sent.
      rig.io.storm = {};
      rig.io.stop = false;
      encapsulation.carry();
      CHECK(in_order(rig.io.sent, 100));
    }
  }
}

TEST_CASE("storm: a send that is always interrupted ends with the stop") {
  for (const Mode mode : kModes) {
    Rig rig;
    Encapsulation encapsulation(rig.context(mode));
    offer(rig.io, 3000);
    rig.io.storm = {.send = -EINTR, .always_ready = true};
    rig.io.on_send = [&] { rig.io.stop = true; };
    encapsulation.carry();
    // Once more for what was read before the stop.
    CHECK(rig.io.sendmsg_calls + rig.io.sendmmsg_calls == 2);
  }
}

TEST_CASE("storm: writes to the TUN that say EINTR or EAGAIN though poll says writable") {
  for (const Mode mode : kModes) {
    for (const int result : {-EINTR, -EAGAIN}) {
      Rig rig;
      Decapsulation decapsulation(rig.context(mode));
      for (uint32_t i = 0; i < 10; ++i) rig.io.datagrams.push_back({arriving(i)});
      set(rig.io, {.tun_write = result, .always_ready = true});
      decapsulation.carry();
      check_calm(rig.io);
      // Each is tried a few times, then dropped and counted.
      CHECK(rig.io.write_calls <= 10 * 6);
      CHECK(drops(decapsulation, DropReason::kWriteFailed) == 10);
    }
  }
}

TEST_CASE("storm: polls that are always interrupted, or refused") {
  for (const Mode mode : kModes) {
    for (const int result : {-EINTR, -ENOMEM, -EINVAL}) {
      Rig rig;
      Encapsulation encapsulation(rig.context(mode));
      Decapsulation decapsulation(rig.context(mode));
      offer(rig.io, 100);
      for (uint32_t i = 0; i < 100; ++i) rig.io.datagrams.push_back({arriving(i)});
      set(rig.io, {.poll = result});
      encapsulation.carry(&decapsulation);
      check_calm(rig.io);
      CHECK(rig.io.sleeps > 0);
      // What can be carried without waiting is.
      CHECK(rig.io.sent.size() == 100);
      CHECK(decapsulation.counters().sent_packets.get() == 100);
    }
  }
}

TEST_CASE("storm: in one direction of a thread it does not hold up the other") {
  for (const Mode mode : kModes) {
    Rig rig;
    Encapsulation encapsulation(rig.context(mode));
    Decapsulation decapsulation(rig.context(mode));
    rig.io.call_limit = 1'000'000;
    uint64_t worst = 0;
    uint32_t next = 0;
    uint64_t offered = 0;
    set(rig.io, {.tun_read = -EAGAIN});
    rig.io.on_poll = [&](pollfd* fds, int timeout_ms) {
      // A datagram a millisecond, each carried before the next poll.
      worst = std::max(worst, next - decapsulation.counters().sent_packets.get());
      const bool due = rig.io.now >= offered;
      if (due) {
        rig.io.datagrams.push_back({arriving(next++)});
        offered = rig.io.now + 1'000'000;
      }
      for (int i = 0; i < 4; ++i) fds[i].revents = 0;
      const bool tun = fds[1].fd >= 0 && (fds[1].events & POLLIN) != 0;
      if (tun) fds[1].revents = POLLIN;
      if (due && fds[2].fd >= 0) fds[2].revents = POLLIN;
      if (!due && !tun) {
        const int ms = timeout_ms < 0 ? 1 : std::min(timeout_ms, 1);
        rig.io.now += static_cast<uint64_t>(ms) * 1'000'000;
      }
      rig.io.stop = rig.io.now >= rig.io.storm.until_ns;
      return true;
    };
    encapsulation.carry(&decapsulation);
    CHECK(!rig.io.overrun);
    CHECK(next > 1000 * kSeconds / 2);
    CHECK(worst <= 1);
    // Each datagram gives the other direction a turn, too.
    CHECK(rig.io.reads < 2 * next);
  }
}

TEST_CASE("storm: an error that passes leaves nothing behind") {
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  set(rig.io, {.receive = -EINTR, .always_ready = true});
  decapsulation.carry();
  rig.io.storm = {};
  rig.io.stop = false;
  for (uint32_t i = 0; i < 50; ++i) rig.io.datagrams.push_back({arriving(i)});
  const uint64_t before = rig.io.now;
  decapsulation.carry();
  CHECK(decapsulation.counters().sent_packets.get() == 50);
  CHECK(rig.io.now - before <= 20'000'000);
}

TEST_CASE("storm: datagrams that are found to be none do not slow the others down") {
  // Forty wrong checksums a second are below what anything rests for: poll calls, and there is
  // nothing to receive.
  Rig rig;
  Decapsulation decapsulation(rig.context(Mode::kBatch));
  rig.io.storm.until_ns = rig.io.now + kSeconds * kSecond;
  bool rested = false;
  rig.io.on_poll = [&](pollfd* fds, int timeout_ms) {
    rested = rested || timeout_ms >= 0;
    fds[2].revents = POLLIN;
    rig.io.now += 25'000'000;
    return true;
  };
  decapsulation.carry();
  CHECK(!rested);
  CHECK(rig.io.polls.size() >= 40 * kSeconds);
}

}  // namespace flannelette::test
