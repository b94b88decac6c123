// A stop reaches a direction wherever it blocks. The waits are real here: poll on a real eventfd, a
// thread per direction, as in the engine.
#include <doctest/doctest.h>
#include <sys/eventfd.h>

#include <chrono>
#include <functional>
#include <thread>

#include "engine/decapsulation.h"
#include "engine/encapsulation.h"
#include "scripted_io.h"

namespace flannelette::test {

namespace {

// Runs a direction until it waits for the `waits`-th time, stops it, and returns how long it took.
// `shared`: with decapsulation on the same thread.
template <typename T>
std::chrono::milliseconds time_to_stop(Rig& rig, Mode mode, bool shared = false) {
  const OwnedFd stop_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  std::atomic<bool> waiting{false};
  rig.io.on_poll = [&](pollfd* fds, int timeout_ms) {
    // Only the stop is real; the TUN and the socket have nothing to say.
    fds[0].fd = stop_event.get();
    waiting = true;
    (void)kernel_io().poll(fds, 1, timeout_ms);
    return true;
  };
  T direction(rig.context(mode));
  Decapsulation other(rig.context(mode));
  std::thread thread([&] { direction.carry(shared ? &other : nullptr); });
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!waiting && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  REQUIRE(waiting);
  const auto start = std::chrono::steady_clock::now();
  rig.io.stop.store(true, std::memory_order_relaxed);
  REQUIRE(::eventfd_write(stop_event.get(), 1) == 0);
  thread.join();
  // The table is left: what is replaced now is freed at once.
  rig.table().publish(std::make_unique<const ForwardingTable>());
  CHECK(rig.table().retired() == 0);
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() -
                                                               start);
}

constexpr std::chrono::milliseconds kLimit(500);

}  // namespace

TEST_CASE("stop: an idle encapsulation") {
  for (const Mode mode : {Mode::kBasic, Mode::kBatch}) {
    Rig rig;
    CHECK(time_to_stop<Encapsulation>(rig, mode) < kLimit);
  }
}

TEST_CASE("stop: an encapsulation with a full ring behind a blocked socket") {
  Rig rig;
  rig.io.send_blocked = true;
  for (uint32_t i = 0; i < 3000; ++i) rig.io.tun_reads.push_back({numbered_packet(i), 0});
  CHECK(time_to_stop<Encapsulation>(rig, Mode::kBatch) < kLimit);
  CHECK(rig.io.sent.empty());
}

TEST_CASE("stop: both directions on one thread, idle or blocked") {
  for (const bool blocked : {false, true}) {
    Rig rig;
    rig.io.send_blocked = blocked;
    offer(rig.io, 3000);
    CHECK(time_to_stop<Encapsulation>(rig, Mode::kBatch, true) < kLimit);
    CHECK(rig.io.sent.empty() == blocked);
  }
}

TEST_CASE("stop: an encapsulation that waits out an error") {
  Rig rig;
  for (uint32_t i = 0; i < 1000; ++i) rig.io.tun_reads.push_back({{}, ENOMEM});
  CHECK(time_to_stop<Encapsulation>(rig, Mode::kBatch) < kLimit);
}

TEST_CASE("stop: an idle decapsulation") {
  for (const Mode mode : {Mode::kBasic, Mode::kBatch}) {
    Rig rig;
    CHECK(time_to_stop<Decapsulation>(rig, mode) < kLimit);
  }
}

TEST_CASE("stop: a decapsulation whose TUN takes nothing, with a batch left to write") {
  Rig rig;
  for (uint32_t i = 0; i < 64; ++i)
    rig.io.datagrams.push_back(
        {numbered_packet(i, 64, {.source = kContainer2, .destination = kContainer1})});
  for (int i = 0; i < 1000; ++i) rig.io.write_results.push_back(-EAGAIN);
  CHECK(time_to_stop<Decapsulation>(rig, Mode::kBatch) < kLimit);
  CHECK(rig.io.written.empty());
}

}  // namespace flannelette::test
