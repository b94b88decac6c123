// What each data-plane thread counts. One thread writes a block, any thread may read it: relaxed
// atomics without read-modify-write instructions, each block in cache lines of its own.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace flannelette {

// Why a packet went no further. Names in drop_reason_name().
enum class DropReason : uint8_t {
  kShort,
  kBadVersion,
  kBadHeader,
  kBadLength,
  kBadChecksum,
  kOversize,  // longer than the receive buffer: dropped whole
  kTtlExceeded,
  kNoRoute,
  kBadOffload,          // the TUN's virtio header and the packet contradict each other
  kUnknownSource,       // outer source holds no lease
  kSourceMismatch,      // inner source is not in the outer source's subnet
  kForeignDestination,  // inner destination is not in our subnet
  kSendBufferFull,      // ENOBUFS, ENOMEM
  kSendRefused,         // EPERM: a firewall
  kSendUnreachable,     // ENETUNREACH, EHOSTUNREACH, ENETDOWN
  kSendTooBig,          // EMSGSIZE
  kSendFailed,          // any other errno
  kDeviceDown,          // EIO: the TUN is not up
  kWriteFailed,         // any other errno of a TUN write
  kPathMtu,             // DF set and longer than the path to the next hop takes; answered by ICMP
  kCount,
};

inline constexpr size_t kDropReasons = static_cast<size_t>(DropReason::kCount);

constexpr const char* drop_reason_name(DropReason reason) {
  constexpr std::array<const char*, kDropReasons> names = {"short",
                                                           "bad_version",
                                                           "bad_header",
                                                           "bad_length",
                                                           "bad_checksum",
                                                           "oversize",
                                                           "ttl_exceeded",
                                                           "no_route",
                                                           "bad_offload",
                                                           "unknown_source",
                                                           "source_mismatch",
                                                           "foreign_destination",
                                                           "send_buffer_full",
                                                           "send_refused",
                                                           "send_unreachable",
                                                           "send_too_big",
                                                           "send_failed",
                                                           "device_down",
                                                           "write_failed",
                                                           "path_mtu"};
  return names[static_cast<size_t>(reason)];
}

class Counter {
 public:
  void add(uint64_t n) {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  void set(uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Batch sizes 1, 2, 4, ... 128: bucket i counts sizes above 2^(i-1) and up to 2^i.
inline constexpr size_t kBatchBuckets = 8;

constexpr size_t batch_bucket(size_t size) {
  size_t bucket = 0;
  while (bucket + 1 < kBatchBuckets && (size_t{1} << bucket) < size) ++bucket;
  return bucket;
}

// The table of plain numbers: member, name in JavaScript (src/dataplane/counters.ts has the same).
// icmp_suppressed: not allowed by RFC 1122, over the rate, or refused by the kernel.
// kernel_*: what the kernel carried by itself, written by the control thread alone.
// clang-format off
#define FLANNELETTE_COUNTERS(counter)                  \
  counter(received_packets, "receivedPackets")         \
  counter(received_bytes, "receivedBytes")             \
  counter(sent_packets, "sentPackets")                 \
  counter(sent_bytes, "sentBytes")                     \
  counter(kernel_packets, "kernelPackets")             \
  counter(kernel_bytes, "kernelBytes")                 \
  counter(icmp_time_exceeded, "icmpTimeExceeded")      \
  counter(icmp_unreachable, "icmpUnreachable")         \
  counter(icmp_frag_needed, "icmpFragNeeded")          \
  counter(icmp_suppressed, "icmpSuppressed")           \
  counter(read_calls, "readCalls")                     \
  counter(write_calls, "writeCalls")                   \
  counter(poll_calls, "pollCalls")                     \
  counter(ring_bytes, "ringBytes")                     \
  counter(ring_capacity, "ringCapacityBytes")          \
  counter(ring_high_water, "ringHighWaterBytes")       \
  counter(events_lost, "eventsLost")
// clang-format on

struct alignas(64) ThreadCounters {
#define FLANNELETTE_MEMBER(member, name) Counter member;
  FLANNELETTE_COUNTERS(FLANNELETTE_MEMBER)
#undef FLANNELETTE_MEMBER
  std::array<Counter, kDropReasons> drops;
  std::array<Counter, kBatchBuckets> batch_sizes;

  // Everything but the sizes of the ring.
  void add(const ThreadCounters& other) {
    const uint64_t used = ring_bytes.get();
    const uint64_t capacity = ring_capacity.get();
#define FLANNELETTE_ADD(member, name) member.add(other.member.get());
    FLANNELETTE_COUNTERS(FLANNELETTE_ADD)
#undef FLANNELETTE_ADD
    ring_bytes.set(used);
    ring_capacity.set(capacity);
    ring_high_water.set(other.ring_high_water.get());
    for (size_t i = 0; i < drops.size(); ++i) drops[i].add(other.drops[i].get());
    for (size_t i = 0; i < batch_sizes.size(); ++i) batch_sizes[i].add(other.batch_sizes[i].get());
  }

  void drop(DropReason reason, uint64_t n = 1) { drops[static_cast<size_t>(reason)].add(n); }
};

// Calls `take` with the name and the value of each plain number.
template <typename Take>
void each_counter(const ThreadCounters& counters, Take&& take) {
#define FLANNELETTE_TAKE(member, name) take(name, counters.member.get());
  FLANNELETTE_COUNTERS(FLANNELETTE_TAKE)
#undef FLANNELETTE_TAKE
}

}  // namespace flannelette
