// The token bucket under a clock the test owns.
#include "core/rate_limit.h"

#include <doctest/doctest.h>

#include <random>

namespace flannelette::test {

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

size_t taken_at(RateLimit& limit, uint64_t now, size_t tries = 1000) {
  size_t taken = 0;
  for (size_t i = 0; i < tries; ++i) taken += limit.take(now) ? 1 : 0;
  return taken;
}

}  // namespace

TEST_CASE("a bucket starts full, whatever the clock says at first") {
  for (const uint64_t start : {uint64_t{0}, uint64_t{1}, 5 * kSecond, UINT64_MAX - kSecond}) {
    RateLimit limit(10, 4);
    CHECK(taken_at(limit, start) == 4);
  }
}

TEST_CASE("tokens come at the rate and not a nanosecond earlier") {
  RateLimit limit(10, 4);
  uint64_t now = 7 * kSecond;
  REQUIRE(taken_at(limit, now) == 4);
  CHECK(!limit.take(now + kSecond / 10 - 1));
  CHECK(limit.take(now + kSecond / 10));
  CHECK(!limit.take(now + kSecond / 10));
  CHECK(taken_at(limit, now + kSecond / 10 * 3) == 2);
}

TEST_CASE("no more than the burst is saved") {
  RateLimit limit(10, 4);
  REQUIRE(taken_at(limit, 0) == 4);
  CHECK(taken_at(limit, 3600 * kSecond) == 4);
  CHECK(taken_at(limit, UINT64_MAX) == 4);
}

TEST_CASE("a clock that steps back counts as no time passed and earns nothing twice") {
  RateLimit limit(10, 4);
  REQUIRE(taken_at(limit, 100 * kSecond) == 4);
  CHECK(!limit.take(50 * kSecond));
  CHECK(!limit.take(0));
  CHECK(!limit.take(100 * kSecond));
  CHECK(!limit.take(100 * kSecond + kSecond / 20));
  CHECK(!limit.take(99 * kSecond));
  CHECK(limit.take(100 * kSecond + kSecond / 10));
}

TEST_CASE("over any stretch of time no more than burst plus rate is let through") {
  std::mt19937_64 random(4);
  RateLimit limit(100, 50);
  uint64_t now = kSecond;
  const uint64_t start = now;
  uint64_t latest = now;
  uint64_t taken = 0;
  for (int i = 0; i < 200000; ++i) {
    // Mostly forwards, now and then a step back.
    now = random() % 50 == 0 ? now - std::min(now, random() % kSecond) : now + random() % 1'000'000;
    latest = std::max(latest, now);
    taken += limit.take(now) ? 1 : 0;
    REQUIRE(taken <= 50 + (latest - start) * 100 / kSecond);
  }
  CHECK(taken > (latest - start) * 100 / kSecond / 2);
}

}  // namespace flannelette::test
