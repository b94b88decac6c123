// The search for the longest packet that reaches a host whole, by probes that the host answers:
// packetization layer path MTU discovery (RFC 4821, RFC 8899). What is not answered is not
// believed, and no ICMP error is needed.
//
//   round 1    the full size and the smallest: the full one answered ends the search
//   round 2..  up to 8 sizes at once, spread between the longest answered and the shortest that was
//              not, until both are neighbours
//
// A size is given up after three tries without an answer, so a lost probe costs nothing. Time is
// handed in, so that tests own the clock; nothing is sent from here.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace flannelette {

class PathMtuSearch {
 public:
  static constexpr size_t kProbesMax = 8;
  static constexpr int kTries = 3;

  enum class State : uint8_t {
    kSearching,
    kFound,       // size() reaches the host, one byte more does not, or size() is the full one
    kUnanswered,  // not even the smallest probe is answered
  };

  // Sizes in bytes, `smallest` < `full`.
  PathMtuSearch(uint16_t smallest, uint16_t full, uint64_t now_ns);

  State state() const { return state_; }
  uint16_t size() const { return low_; }
  // When the next call of `send` is due.
  uint64_t due_ns() const { return due_ns_; }

  // Sizes of the probes to send at this time; none when it is not due or has ended. Good until the
  // next call.
  std::span<const uint16_t> send(uint64_t now_ns);
  // A probe of this size was answered. Sizes that were not sent are ignored.
  void answered(uint16_t size, uint64_t now_ns);

 private:
  struct Probe {
    uint16_t size = 0;
    bool answered = false;
  };

  void end_round(uint64_t now_ns);
  void begin_round(uint64_t now_ns);

  State state_ = State::kSearching;
  uint16_t full_;
  uint16_t low_ = 0;  // the longest answered
  uint16_t high_;     // the shortest that was not
  std::array<Probe, kProbesMax> probes_{};
  size_t count_ = 0;  // of probes_
  std::array<uint16_t, kProbesMax> out_{};
  int tries_ = 0;
  uint64_t began_ns_ = 0;  // this round
  uint64_t due_ns_ = 0;
  uint64_t pause_ns_;  // between tries
};

}  // namespace flannelette
