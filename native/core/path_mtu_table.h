// What the tunnel knows about the paths to its next hops: the longest inner packet that reaches a
// host in one piece. Packet threads read it per packet; one other thread writes it.
//
// 512 buckets of 8 hosts, each bucket one cache line, each entry one atomic word. A lookup reads
// one line and takes no lock; a bucket that is full learns no more hosts, whose packets then travel
// as if nothing were known about them.
//
//   entry:  host (32 bits) | .. | used (1) | bytes (16)
//
// The packet threads note hosts that are sent long packets to and that nothing is known about, in a
// small list (`want`) that the writer empties about once a second: a host is told once, not per
// packet.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace flannelette {

class PathMtuTable {
 public:
  // Bytes of an inner packet that fits any path: less the outer headers, the 576 that each host has
  // to take (RFC 791). No entry is smaller, so shorter packets need no lookup.
  static constexpr size_t kAlwaysFits = 576 - 28;
  static constexpr size_t kHostsMax = 4096;

  // Packet threads: bytes of the longest inner packet that reaches the host whole, 0 when nothing
  // is known. The entry counts as used.
  uint16_t use(uint32_t host) {
    for (std::atomic<uint64_t>& entry : buckets_[bucket_of(host)].entries) {
      uint64_t value = entry.load(std::memory_order_relaxed);
      if (host_in(value) != host) continue;
      // Not when it changed meanwhile: it is another's then.
      if ((value & kUsed) == 0)
        (void)entry.compare_exchange_strong(value, value | kUsed, std::memory_order_relaxed);
      return static_cast<uint16_t>(value);
    }
    return 0;
  }

  // Packet threads: notes that long packets go to a host that nothing is known about. True when the
  // writer has to be woken for it.
  bool want(uint32_t host) {
    std::atomic<uint32_t>& place = wanted_[hash(host) >> 26];
    uint32_t free = 0;
    return place.load(std::memory_order_relaxed) == 0 &&
           place.compare_exchange_strong(free, host, std::memory_order_relaxed);
  }

  // The writer: false when the host's bucket is full.
  bool put(uint32_t host, uint16_t bytes) {
    std::atomic<uint64_t>* at = find(host, host);
    if (at == nullptr) at = find(host, 0);
    if (at == nullptr) return false;
    at->store(uint64_t{host} << 32 | bytes, std::memory_order_relaxed);
    return true;
  }
  void erase(uint32_t host) {
    if (std::atomic<uint64_t>* at = find(host, host)) at->store(0, std::memory_order_relaxed);
  }
  // Whether the entry was used since it was put.
  bool used(uint32_t host) {
    const std::atomic<uint64_t>* at = find(host, host);
    return at != nullptr && (at->load(std::memory_order_relaxed) & kUsed) != 0;
  }

  // The writer: hosts noted since the last forget_wanted, at most 64.
  std::vector<uint32_t> wanted() const {
    std::vector<uint32_t> out;
    for (const auto& place : wanted_)
      if (const uint32_t host = place.load(std::memory_order_relaxed); host != 0)
        out.push_back(host);
    return out;
  }
  void forget_wanted() {
    for (auto& place : wanted_) place.store(0, std::memory_order_relaxed);
  }

 private:
  static constexpr size_t kWays = 8;
  static constexpr size_t kBuckets = kHostsMax / kWays;
  static constexpr uint64_t kUsed = uint64_t{1} << 16;

  struct alignas(64) Bucket {
    std::array<std::atomic<uint64_t>, kWays> entries{};
  };

  // Fibonacci hashing, as in NextHopSet.
  static uint32_t hash(uint32_t host) { return host * 0x9e3779b1U; }
  static size_t bucket_of(uint32_t host) { return hash(host) >> 23; }
  static uint32_t host_in(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

  // The entry of `holder` in the bucket of `host`; a holder of 0: one that is free.
  std::atomic<uint64_t>* find(uint32_t host, uint32_t holder) {
    for (std::atomic<uint64_t>& entry : buckets_[bucket_of(host)].entries)
      if (host_in(entry.load(std::memory_order_relaxed)) == holder) return &entry;
    return nullptr;
  }

  std::array<Bucket, kBuckets> buckets_{};
  std::array<std::atomic<uint32_t>, 64> wanted_{};
};

}  // namespace flannelette
