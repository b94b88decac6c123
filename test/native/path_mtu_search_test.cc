// The search against paths of every length, with loss, and against hosts that answer nothing.
#include "core/path_mtu_search.h"

#include <doctest/doctest.h>

#include <functional>
#include <random>

namespace flannelette::test {

namespace {

constexpr uint64_t kMs = 1'000'000;
using Path = std::function<bool(uint16_t size)>;  // whether a probe of this size is answered

struct Ended {
  PathMtuSearch::State state;
  uint16_t size;
  uint64_t took_ms;
  size_t probes;
};

Ended search(uint16_t smallest, uint16_t full, const Path& path, uint64_t round_trip_ms = 1) {
  uint64_t now = 5000 * kMs;
  PathMtuSearch search(smallest, full, now);
  size_t probes = 0;
  while (search.state() == PathMtuSearch::State::kSearching && probes < 10'000) {
    std::vector<uint16_t> answers;
    for (const uint16_t size : search.send(now)) {
      ++probes;
      if (path(size)) answers.push_back(size);
    }
    now += round_trip_ms * kMs;
    for (const uint16_t size : answers) search.answered(size, now);
    now = std::max(now, search.due_ns());
  }
  return {search.state(), search.size(), (now - 5000 * kMs) / kMs, probes};
}

}  // namespace

TEST_CASE("path MTU search: a path that takes full-size packets costs two probes") {
  const Ended ended = search(548, 1472, [](uint16_t) { return true; });
  CHECK(ended.state == PathMtuSearch::State::kFound);
  CHECK(ended.size == 1472);
  CHECK(ended.probes == 2);
}

TEST_CASE("path MTU search: finds each length to the byte, in a few rounds") {
  for (uint16_t longest = 548; longest <= 1472; ++longest) {
    const Ended ended = search(548, 1472, [&](uint16_t size) { return size <= longest; });
    REQUIRE(ended.state == PathMtuSearch::State::kFound);
    REQUIRE(ended.size == longest);
    REQUIRE(ended.probes < 100);
    REQUIRE(ended.took_ms < 3000);
  }
  const Ended jumbo = search(548, 8972, [](uint16_t size) { return size <= 1472; });
  CHECK(jumbo.size == 1472);
  CHECK(jumbo.probes < 120);
}

TEST_CASE(
    "path MTU search: never finds more than was answered, and the loss of one in ten is nothing") {
  std::mt19937 random(7);
  size_t exact = 0;
  for (int i = 0; i < 200; ++i) {
    const auto longest = static_cast<uint16_t>(548 + random() % 925);
    const Ended ended =
        search(548, 1472, [&](uint16_t size) { return size <= longest && random() % 10 != 0; });
    if (ended.state != PathMtuSearch::State::kFound) continue;
    CHECK(ended.size <= longest);
    exact += ended.size == longest ? 1 : 0;
  }
  CHECK(exact > 180);
}

TEST_CASE("path MTU search: a host that answers nothing is left alone") {
  const Ended ended = search(548, 1472, [](uint16_t) { return false; });
  CHECK(ended.state == PathMtuSearch::State::kUnanswered);
  CHECK(ended.probes == 2 * PathMtuSearch::kTries);
}

TEST_CASE("path MTU search: answers to what was not sent count for nothing") {
  PathMtuSearch search(548, 1472, 0);
  search.answered(1472, 0);
  CHECK(search.state() == PathMtuSearch::State::kSearching);
  CHECK(search.send(0).size() == 2);
  search.answered(1400, kMs);
  search.answered(1473, kMs);
  CHECK(search.state() == PathMtuSearch::State::kSearching);
  CHECK(search.send(kMs).empty());
  search.answered(1472, 2 * kMs);
  CHECK(search.state() == PathMtuSearch::State::kFound);
}

}  // namespace flannelette::test
