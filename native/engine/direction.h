// What both directions of the tunnel share: the descriptors and tables they work on, how they
// wait, how they answer with ICMP, and how they end.
//
// A direction is one thread that owns one ring. Its loop never blocks but in wait(), which always
// watches the stop eventfd too, so that a stop takes effect at once, idle or under load. No
// allocation, lock or log line is made per packet.
#pragma once

#include <atomic>
#include <cstdint>

#include "core/counters.h"
#include "core/forwarding_table.h"
#include "core/icmp.h"
#include "core/packet_ring.h"
#include "core/published.h"
#include "engine/events.h"
#include "engine/features.h"
#include "sys/io.h"
#include "sys/packet_memory.h"

namespace flannelette {

// Packets handed to the kernel in one call in batch mode; UIO_MAXIOV would allow 1024, but a
// longer batch only delays its first packet and outgrows the cache.
inline constexpr size_t kBatchMax = 64;

enum class Mode : uint8_t {
  kBasic,    // one read, one send per packet: flannel's three copies
  kBatch,    // recvmmsg and sendmmsg; several TUN reads before one send
  kOffload,  // as batch, and packets cross the kernel as trains wherever it can
};

// Readers of the forwarding table: one slot each.
enum TableReader : size_t { kEncapsulationReader, kDecapsulationReader, kControlReader, kReaders };
using PublishedTable = Published<ForwardingTable, kReaders>;

// Everything a direction works on; set up before its thread starts and unchanged after.
struct DirectionContext {
  Io& io;
  int tun_fd = -1;
  int udp_fd = -1;
  int raw_fd = -1;
  int stop_fd = -1;
  const std::atomic<bool>& stop;
  PublishedTable& table;
  const EventPipe& events;
  FeatureSwitches& features;
  // The TUN puts a VirtioNetHeader in front of each packet and expects one.
  bool vnet_header = false;
  Mode mode = Mode::kBatch;
  uint32_t tun_address = 0;  // source of ICMP errors
  Subnet overlay;
  Subnet own;
  uint16_t port = 8285;
  bool source_check = true;
};

class Direction {
 public:
  // `staging_bytes`: of memory beside the ring, see staging().
  Direction(const DirectionContext& context, TableReader reader, size_t ring_bytes,
            size_t ring_records, size_t staging_bytes = 0);
  virtual ~Direction() = default;
  Direction(const Direction&) = delete;
  Direction& operator=(const Direction&) = delete;

  // The thread's work: carries packets until stopped or until a descriptor is gone for good.
  void carry() {
    run();
    context_.table.leave(reader_);
  }

  const ThreadCounters& counters() const { return counters_; }
  size_t ring_capacity() const { return ring_.capacity(); }

 protected:
  virtual void run() = 0;

  std::span<uint8_t> staging() { return memory_.bytes().subspan(ring_.capacity()); }

  size_t batch_limit() const { return context_.mode == Mode::kBasic ? 1 : kBatchMax; }
  bool running() const { return !ended_ && !context_.stop.load(std::memory_order_relaxed); }

  // The forwarding table, good until the next wait.
  const ForwardingTable& table() { return context_.table.enter(reader_); }

  // Waits until a descriptor has one of its events (0: not watched), the stop, or the time-out
  // (negative: none).
  void wait(short tun_events, short udp_events, int timeout_ms = -1);
  // Whether to look once more before waiting: in batch mode the CPU is given away a few times
  // first, so that whoever produces packets produces a batch, and a wake-up (an inter-processor
  // interrupt, tens of microseconds on a virtual machine) is saved. On an idle CPU this is a few
  // system calls, not polling. TCP through the tunnel gains a fifth from it.
  bool linger();
  void made_progress() { yields_ = 0; }
  // Lets time pass after an error that is neither expected nor final, so that it cannot spin.
  void back_off() { wait(0, 0, 100); }

  bool on(KernelFeature feature) const { return context_.features.on(feature); }
  // Goes on without a feature that the kernel refuses; told to the control plane once.
  void refuse(KernelFeature feature, int number);

  // Ends this direction: the descriptor is gone or unusable. Tells the control plane.
  void fault(FaultSource source, int number);

  // Answers a packet that was dropped, within RFC 1122 and the rate limit.
  void answer(IcmpError error, const Ipv4Packet& offender);

  void drop_faulty(PacketFault fault);
  void note_batch(size_t size) { counters_.batch_sizes[batch_bucket(size)].add(1); }
  void note_ring();

  const DirectionContext context_;
  PacketMemory memory_;
  PacketRing ring_;
  ThreadCounters counters_;

 private:
  TableReader reader_;
  bool ended_ = false;
  int yields_ = 0;
  // Linux allows itself 1,000 ICMP errors a second (icmp_msgs_per_sec); a tunnel needs fewer.
  RateLimit icmp_limit_{100, 50};
  IcmpBuffer icmp_{};
};

// Nanoseconds of CLOCK_MONOTONIC. Only for the paths that report or answer, never per packet.
uint64_t monotonic_ns();

// Errors that no later call can cure: the device was deleted or the descriptor is not ours.
bool is_final(int number);

}  // namespace flannelette
