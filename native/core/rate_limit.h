// A token bucket. Time is handed in, so that tests own the clock; one thread uses one bucket.
#pragma once

#include <algorithm>
#include <cstdint>

namespace flannelette {

class RateLimit {
 public:
  // `per_second` tokens a second, at most `burst` saved; starts full.
  RateLimit(uint32_t per_second, uint32_t burst)
      : interval_ns_(1'000'000'000ULL / per_second), capacity_ns_(interval_ns_ * burst) {}

  // Takes a token if there is one. `now_ns` is monotonic; a step back counts as no time passed.
  bool take(uint64_t now_ns) {
    if (!started_) {
      started_ = true;
      credit_ns_ = capacity_ns_;
    } else if (now_ns > last_ns_) {
      credit_ns_ = std::min(capacity_ns_, credit_ns_ + std::min(now_ns - last_ns_, capacity_ns_));
    }
    last_ns_ = std::max(last_ns_, now_ns);
    if (credit_ns_ < interval_ns_) return false;
    credit_ns_ -= interval_ns_;
    return true;
  }

 private:
  uint64_t interval_ns_;
  uint64_t capacity_ns_;
  uint64_t credit_ns_ = 0;
  uint64_t last_ns_ = 0;
  bool started_ = false;
};

}  // namespace flannelette
