// Counters: bucket boundaries, names, and reading while another thread counts.
#include "core/counters.h"

#include <doctest/doctest.h>

#include <cstring>
#include <set>
#include <string>
#include <thread>

namespace flannelette::test {

TEST_CASE("bucket i counts sizes above 2^(i-1) and up to 2^i, the last everything above") {
  CHECK(batch_bucket(0) == 0);
  for (size_t size = 1; size <= 300; ++size) {
    size_t expected = 0;
    while (expected < kBatchBuckets - 1 && (size_t{1} << expected) < size) ++expected;
    CAPTURE(size);
    CHECK(batch_bucket(size) == expected);
  }
  static_assert(batch_bucket(1) == 0 && batch_bucket(2) == 1 && batch_bucket(3) == 2 &&
                batch_bucket(4) == 2 && batch_bucket(5) == 3 && batch_bucket(64) == 6 &&
                batch_bucket(65) == 7 && batch_bucket(128) == 7 && batch_bucket(129) == 7 &&
                batch_bucket(SIZE_MAX) == 7);
}

TEST_CASE("every drop reason has a name of its own in metric form") {
  std::set<std::string> names;
  for (size_t i = 0; i < kDropReasons; ++i) {
    const char* name = drop_reason_name(static_cast<DropReason>(i));
    REQUIRE(name != nullptr);
    INFO("name: ", std::string(name));
    CHECK(std::strlen(name) > 0);
    CHECK(std::string(name).find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos);
    names.insert(name);
  }
  CHECK(names.size() == kDropReasons);
  CHECK(std::string(drop_reason_name(DropReason::kShort)) == "short");
  CHECK(std::string(drop_reason_name(DropReason::kOversize)) == "oversize");
  CHECK(std::string(drop_reason_name(DropReason::kNoRoute)) == "no_route");
  CHECK(std::string(drop_reason_name(DropReason::kForeignDestination)) == "foreign_destination");
  CHECK(std::string(drop_reason_name(DropReason::kSendBufferFull)) == "send_buffer_full");
  CHECK(std::string(drop_reason_name(DropReason::kSendFailed)) == "send_failed");
  CHECK(std::string(drop_reason_name(DropReason::kDeviceDown)) == "device_down");
  CHECK(std::string(drop_reason_name(DropReason::kWriteFailed)) == "write_failed");
}

TEST_CASE("drop counts one or many under its reason only") {
  ThreadCounters counters;
  counters.drop(DropReason::kNoRoute);
  counters.drop(DropReason::kNoRoute, 41);
  for (size_t i = 0; i < kDropReasons; ++i)
    CHECK(counters.drops[i].get() == (i == static_cast<size_t>(DropReason::kNoRoute) ? 42 : 0));
}

TEST_CASE("a thread reads counters that another writes: never backwards, exact at the end") {
  constexpr uint64_t kAdds = 300000;
  ThreadCounters counters;
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (uint64_t i = 0; i < kAdds; ++i) {
      counters.sent_packets.add(1);
      counters.sent_bytes.add(1500);
      counters.ring_bytes.set(i);
    }
    done = true;
  });
  uint64_t packets = 0;
  uint64_t bytes = 0;
  size_t wrong = 0;
  while (!done) {
    const uint64_t packets_now = counters.sent_packets.get();
    const uint64_t bytes_now = counters.sent_bytes.get();
    if (packets_now < packets || bytes_now < bytes || bytes_now % 1500 != 0) ++wrong;
    packets = packets_now;
    bytes = bytes_now;
  }
  writer.join();
  CHECK(wrong == 0);
  CHECK(counters.sent_packets.get() == kAdds);
  CHECK(counters.sent_bytes.get() == kAdds * 1500);
  CHECK(counters.ring_bytes.get() == kAdds - 1);
}

TEST_CASE("two threads' counters share no cache line") {
  static_assert(alignof(ThreadCounters) == 64 && sizeof(ThreadCounters) % 64 == 0);
  CHECK(alignof(ThreadCounters) == 64);
}

}  // namespace flannelette::test
