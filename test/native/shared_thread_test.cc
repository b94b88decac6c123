// One thread for both directions: they take turns, and what holds one of them up does not hold up
// the other.
#include <doctest/doctest.h>

#include "engine/decapsulation.h"
#include "engine/encapsulation.h"
#include "scripted_io.h"

namespace flannelette::test {

namespace {

constexpr std::array<Mode, 3> kModes = {Mode::kBasic, Mode::kBatch, Mode::kOffload};

// Without the features that merge packets, so that each write is one packet.
constexpr FeatureSet kSingles = feature_bit(KernelFeature::kTunTso) |
                                feature_bit(KernelFeature::kTunUso) |
                                feature_bit(KernelFeature::kUdpGro);

Bytes arriving(uint32_t number) {
  return numbered_packet(number, 64, {.source = kContainer2, .destination = kContainer1});
}

void deliver(ScriptedIo& io, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) io.datagrams.push_back({arriving(i)});
}

bool all_written(const ScriptedIo& io, uint32_t count) {
  if (io.written.size() != count) return false;
  for (uint32_t i = 0; i < count; ++i)
    if (io.written[i] != one_hop_later(arriving(i))) return false;
  return true;
}

// Both directions of a rig on the calling thread, until the script is at its end.
struct SharedThread {
  explicit SharedThread(Rig& rig, Mode mode = Mode::kBatch)
      : encapsulation(rig.context(mode, true, nullptr, kSingles)),
        decapsulation(rig.context(mode, true, nullptr, kSingles)) {}

  void carry() { encapsulation.carry(&decapsulation); }

  Encapsulation encapsulation;
  Decapsulation decapsulation;
};

}  // namespace

TEST_CASE("shared thread: both directions carry everything in order, then wait for both") {
  for (const Mode mode : kModes) {
    Rig rig;
    offer(rig.io, 1000);
    deliver(rig.io, 1000);
    SharedThread thread(rig, mode);
    thread.carry();
    CHECK(!rig.io.overrun);
    CHECK(in_order(rig.io.sent, 1000));
    CHECK(all_written(rig.io, 1000));
    REQUIRE(rig.io.polls.size() == 1);
    CHECK(rig.io.polls[0].tun == POLLIN);
    CHECK(rig.io.polls[0].udp == POLLIN);
    CHECK(rig.io.polls[0].timeout_ms == -1);
    // Both have left the table.
    rig.table().publish(std::make_unique<const ForwardingTable>());
    CHECK(rig.table().retired() == 0);
  }
}

TEST_CASE("shared thread: under load neither direction starves") {
  for (const Mode mode : kModes) {
    Rig rig;
    offer(rig.io, 20'000);
    deliver(rig.io, 20'000);
    rig.io.call_limit = 4000;
    SharedThread thread(rig, mode);
    thread.carry();
    CHECK(rig.io.polls.empty());
    REQUIRE(!rig.io.sent.empty());
    REQUIRE(!rig.io.written.empty());
    const double ratio =
        static_cast<double>(rig.io.sent.size()) / static_cast<double>(rig.io.written.size());
    CHECK(ratio > 0.9);
    CHECK(ratio < 1.2);
  }
}

TEST_CASE("shared thread: an idle direction does not hold an old table back beside a busy one") {
  Rig rig;
  deliver(rig.io, 1);
  offer(rig.io, 6400);
  SharedThread thread(rig);
  std::vector<size_t> retired;
  rig.io.on_send = [&] {
    // A table is freed by a later publication, when its readers have moved on.
    if (rig.io.sendmmsg_calls % 10 != 0) return;
    rig.table().publish(std::make_unique<const ForwardingTable>(example_routes()));
    retired.push_back(rig.table().retired());
  };
  thread.carry();
  CHECK(rig.io.written.size() == 1);
  CHECK(retired == std::vector<size_t>(10, 1));
}

TEST_CASE("shared thread: a blocked socket does not stop decapsulation") {
  Rig rig;
  rig.io.send_blocked = true;
  offer(rig.io, 3000);
  deliver(rig.io, 500);
  SharedThread thread(rig);
  thread.carry();
  CHECK(!rig.io.overrun);
  CHECK(rig.io.sent.empty());
  CHECK(all_written(rig.io, 500));
  // The ring is full: the TUN is left alone, and both sides of the socket are waited for.
  REQUIRE(!rig.io.polls.empty());
  CHECK(rig.io.polls.back().tun == 0);
  CHECK(rig.io.polls.back().udp == (POLLIN | POLLOUT));
}

TEST_CASE("shared thread: a TUN that takes nothing does not stop encapsulation") {
  Rig rig;
  offer(rig.io, 2000);
  deliver(rig.io, 1);
  rig.io.write_results = {-EAGAIN, -EAGAIN};
  SharedThread thread(rig);
  size_t sent_when_idle = 0;
  rig.io.on_poll = [&](pollfd* fds, int timeout_ms) {
    // The TUN never becomes writable.
    fds[1].events = static_cast<short>(fds[1].events & ~POLLOUT);
    if (timeout_ms > 0 && sent_when_idle == 0) sent_when_idle = rig.io.sent.size();
    return false;
  };
  thread.carry();
  CHECK(!rig.io.overrun);
  CHECK(in_order(rig.io.sent, 2000));
  CHECK(sent_when_idle == 2000);
  CHECK(rig.io.written.empty());
  CHECK(drops(thread.decapsulation, DropReason::kWriteFailed) == 1);
}

TEST_CASE("shared thread: a TUN that takes packets again is written to at once") {
  Rig rig;
  offer(rig.io, 2000);
  deliver(rig.io, 10);
  rig.io.write_results = {-EAGAIN};
  SharedThread thread(rig);
  size_t sent_when_written = 0;
  rig.io.on_poll = [&](pollfd* fds, int) {
    if ((fds[1].events & POLLOUT) != 0 && sent_when_written == 0)
      sent_when_written = rig.io.sent.size();
    return false;
  };
  thread.carry();
  CHECK(all_written(rig.io, 10));
  CHECK(in_order(rig.io.sent, 2000));
  // One turn of the other direction, not all it had.
  CHECK(sent_when_written <= 2 * kBatchMax);
}

TEST_CASE("shared thread: an error that passes in one direction does not hold up the other") {
  Rig rig;
  rig.io.tun_reads.push_back({{}, ENOMEM});
  deliver(rig.io, 300);
  SharedThread thread(rig);
  size_t written_when_idle = 0;
  rig.io.on_poll = [&](pollfd*, int timeout_ms) {
    if (timeout_ms > 0) written_when_idle = rig.io.written.size();
    return false;
  };
  thread.carry();
  CHECK(!rig.io.overrun);
  CHECK(written_when_idle == 300);
  CHECK(all_written(rig.io, 300));
}

TEST_CASE("shared thread: when one direction ends the other goes on") {
  Rig rig;
  rig.io.tun_reads.push_back({{}, EBADFD});
  deliver(rig.io, 300);
  SharedThread thread(rig);
  thread.carry();
  CHECK(!rig.io.overrun);
  CHECK(all_written(rig.io, 300));
  const auto events = rig.events();
  REQUIRE(events.size() == 1);
  CHECK(events[0].type == EventType::kFault);
}

TEST_CASE("shared thread: it ends when both directions have") {
  Rig rig;
  rig.io.tun_reads.push_back({{}, EBADFD});
  deliver(rig.io, 1);
  rig.io.write_results = {-EBADFD};
  SharedThread thread(rig);
  thread.carry();
  CHECK(!rig.io.overrun);
  CHECK(!rig.io.stop);
  CHECK(rig.io.polls.empty());
  CHECK(rig.events().size() == 2);
}

}  // namespace flannelette::test
