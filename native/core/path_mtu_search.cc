#include "core/path_mtu_search.h"

#include <algorithm>

namespace flannelette {

namespace {

constexpr uint64_t kMs = 1'000'000;
// Between tries: at first for any path on earth, then as answers come.
constexpr uint64_t kPauseMax = 400 * kMs;
constexpr uint64_t kPauseMin = 50 * kMs;
constexpr uint64_t kRoundTrips = 4;

}  // namespace

PathMtuSearch::PathMtuSearch(uint16_t smallest, uint16_t full, uint64_t now_ns)
    : full_(full), high_(full), count_(2), pause_ns_(kPauseMax) {
  probes_[0].size = smallest;
  probes_[1].size = full;
  begin_round(now_ns);
}

std::span<const uint16_t> PathMtuSearch::send(uint64_t now_ns) {
  if (state_ != State::kSearching || now_ns < due_ns_) return {};
  if (tries_ == kTries) end_round(now_ns);
  if (state_ != State::kSearching) return {};
  size_t count = 0;
  for (size_t i = 0; i < count_; ++i)
    if (!probes_[i].answered) out_[count++] = probes_[i].size;
  ++tries_;
  due_ns_ = now_ns + pause_ns_;
  return {out_.data(), count};
}

void PathMtuSearch::answered(uint16_t size, uint64_t now_ns) {
  if (state_ != State::kSearching) return;
  const auto last = probes_.begin() + static_cast<ptrdiff_t>(count_);
  const auto probe =
      std::find_if(probes_.begin(), last, [size](const Probe& each) { return each.size == size; });
  if (probe == last || tries_ == 0) return;
  probe->answered = true;
  pause_ns_ = std::clamp((now_ns - began_ns_) * kRoundTrips, kPauseMin, kPauseMax);
  if (size == full_) {
    low_ = full_;
    state_ = State::kFound;
  } else if (std::all_of(probes_.begin(), last, [](const Probe& each) { return each.answered; })) {
    end_round(now_ns);
  }
}

void PathMtuSearch::end_round(uint64_t now_ns) {
  for (size_t i = 0; i < count_; ++i)
    if (probes_[i].answered) low_ = std::max(low_, probes_[i].size);
  for (size_t i = 0; i < count_; ++i)
    if (!probes_[i].answered && probes_[i].size > low_) high_ = std::min(high_, probes_[i].size);
  if (low_ == 0) {
    state_ = State::kUnanswered;
  } else if (high_ - low_ <= 1) {
    state_ = State::kFound;
  } else {
    const size_t between = size_t{high_} - low_ - 1;
    count_ = std::min(between, kProbesMax);
    for (size_t i = 0; i < count_; ++i)
      probes_[i] = {static_cast<uint16_t>(low_ + (i + 1) * (between + 1) / (count_ + 1)), false};
    begin_round(now_ns);
  }
}

void PathMtuSearch::begin_round(uint64_t now_ns) {
  tries_ = 0;
  began_ns_ = due_ns_ = now_ns;
}

}  // namespace flannelette
