// What both directions of the tunnel share: the descriptors and tables they work on, how they
// wait, how they answer with ICMP, and how they end.
//
// A direction owns one ring and works in turns: a turn reads up to a batch and passes it on. A
// thread carries one direction, or two that take turns. It never blocks but in poll, which always
// watches the stop eventfd too, so that a stop takes effect at once, idle or under load. While one
// direction of a thread waits (for a descriptor that takes nothing, or an error to pass) the other
// goes on. No allocation, lock or log line is made per packet.
//
// Nothing is repeated without end. A call that only asks to be made again (EAGAIN, EINTR) is made
// again when poll says so; when poll says so time and again and nothing comes of it, the direction
// rests for 20 ms at a time. Errors that may pass are waited out for 100 ms.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "core/counters.h"
#include "core/forwarding_table.h"
#include "core/icmp.h"
#include "core/packet_ring.h"
#include "core/path_mtu_table.h"
#include "core/published.h"
#include "core/rate_limit.h"
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
  kKernel,   // as offload, and the kernel carries by itself what it can (engine/kernel_share.h)
};

// A queue pair is a queue of the TUN and a socket on the tunnel's port.
inline constexpr size_t kQueuePairsMax = 16;

// Readers of the forwarding table, a slot each: the control thread, the directions of each pair.
inline constexpr size_t kControlReader = 0;
constexpr size_t encapsulation_reader(size_t pair) { return 1 + 2 * pair; }
constexpr size_t decapsulation_reader(size_t pair) { return 2 + 2 * pair; }
using PublishedTable = Published<ForwardingTable, 1 + 2 * kQueuePairsMax>;

// The ring of encapsulation: room for a few batches behind a blocked socket, small enough to stay
// in a core's cache.
inline constexpr size_t kRingBytesDefault = size_t{1024} * 1024;
inline constexpr size_t kRingBytesMin = size_t{512} * 1024;
inline constexpr size_t kRingBytesMax = size_t{64} * 1024 * 1024;

// Everything a direction works on; set up before its thread starts and unchanged after.
struct DirectionContext {
  Io& io;
  size_t pair = 0;
  int tun_fd = -1;
  int udp_fd = -1;                   // of the tunnel's port
  std::vector<int> source_fds = {};  // sockets of further source ports, to send by only
  int raw_fd = -1;
  int stop_fd = -1;
  const std::atomic<bool>& stop;
  PublishedTable& table;
  const EventPipe& events;
  FeatureSwitches& features;
  // The TUN puts a VirtioNetHeader in front of each packet and expects one.
  bool vnet_header = false;
  Mode mode = Mode::kBatch;
  uint32_t tun_address = 0;
  Subnet overlay;
  Subnet own;
  uint16_t port = 8285;
  uint32_t mtu = 1472;  // of the TUN, bytes; a change opens another data plane
  // What is known about the paths to next hops (engine/path_mtu.h), and the eventfd that wakes its
  // writer; null: nothing is.
  PathMtuTable* path_mtus = nullptr;
  int path_mtu_fd = -1;
  bool source_check = true;
  size_t ring_bytes = kRingBytesDefault;  // of encapsulation
  // This process has one CPU: what produces packets has it too, and gets it for a whole time slice
  // (milliseconds) when the thread gives it away.
  bool one_cpu = false;
};

// What came of a direction's turn, and which poll events it needs before the next.
struct Turn {
  bool progress = false;  // packets were carried
  bool more = false;      // another turn may carry more at once
  short tun = 0;          // events of the TUN; 0: none
  short udp = 0;          // of the pair's UDP socket
  int send_fd = -1;       // the socket that takes nothing now: POLLOUT; negative: none
  int rest_ms = 0;        // it takes no turn before that time is over; 0: it may at once
};

class Direction {
 public:
  // `staging_bytes`: of memory beside the ring, see staging().
  Direction(const DirectionContext& context, size_t reader, size_t ring_bytes, size_t ring_records,
            size_t staging_bytes = 0);
  virtual ~Direction() = default;
  Direction(const Direction&) = delete;
  Direction& operator=(const Direction&) = delete;

  // The thread's work: carries packets, in turns with `other` if there is one, until stopped or
  // until the descriptors are gone for good.
  void carry(Direction* other = nullptr);

  // Takes the calling thread's capabilities, and all system calls but those of the loops where the
  // kernel can; for good, so only for a thread that carries packets and ends.
  void confine_thread();

  const ThreadCounters& counters() const { return counters_; }
  // What the kernel carried by itself in this direction; for the control thread.
  void count_kernel(uint64_t packets, uint64_t bytes) {
    counters_.kernel_packets.set(packets);
    counters_.kernel_bytes.set(bytes);
  }
  // Before it carries: takes over what another one has counted.
  void count_on_from(const ThreadCounters& before) { counters_.add(before); }
  // False when there is no memory for packets: it must not carry any.
  bool has_memory() const { return memory_.valid(); }

 protected:
  // Reads up to a batch and passes it on. Without progress there is nothing more to do at once.
  virtual Turn turn() = 0;
  // After a stop: passes on what was read and not passed on yet, without waiting.
  virtual void finish() {}

  std::span<uint8_t> staging() { return memory_.bytes().subspan(ring_.capacity()); }

  // Packets to read in this turn: the first after a wait is sent on before the next is looked for,
  // because there often is none, and finding out takes a system call.
  size_t turn_limit() { return std::exchange(woken_, false) ? 1 : batch_limit(); }
  size_t batch_limit() const { return context_.mode == Mode::kBasic ? 1 : kBatchMax; }
  bool running() const { return in_service() && !context_.stop.load(std::memory_order_relaxed); }
  // Its descriptors are good. What was read before a stop is still passed on: nobody else has it.
  bool in_service() const { return !ended_; }

  // The forwarding table, good until the next wait.
  const ForwardingTable& table() { return context_.table.enter(reader_); }

  // Waits within a turn until the TUN has one of the events (0: not watched), the stop, or the
  // time-out. The thread's other direction goes on meanwhile.
  void wait(short tun_events, int timeout_ms);
  // Lets time pass after an error that is neither expected nor final, so that it cannot spin.
  void back_off() { wait(0, 100); }

  bool on(KernelFeature feature) const { return context_.features.on(feature); }
  // Goes on without a feature that the kernel refuses; told to the control plane once.
  void refuse(KernelFeature feature, int number);

  // Ends this direction: the descriptor is gone or unusable. Tells the control plane.
  void fault(FaultSource source, int number);

  // Answers a packet that was dropped, within RFC 1122 and the rate limit. `mtu`: of kFragNeeded.
  void send_icmp_error(IcmpError error, const Ipv4Packet& original, uint16_t mtu = 0);

  void drop_faulty(PacketFault fault);
  void note_batch(size_t size) { counters_.batch_sizes[batch_bucket(size)].add(1); }
  void note_ring();

  const DirectionContext context_;
  PacketMemory memory_;
  PacketRing ring_;
  ThreadCounters counters_;

 private:
  // A turn of a direction that runs, is not in the midst of one and does not rest.
  Turn take_turn();
  // Notes which of the descriptors that the last turn asked for poll found ready.
  void note_ready(const pollfd (&fds)[4]);
  // This direction or the thread's other one is running.
  bool thread_running() const { return running() || (other_ != nullptr && other_->running()); }
  // Whether to look once more before waiting: the CPU is given away a few times first, so that
  // the producer of packets produces a batch, and a wake-up (an inter-processor interrupt, tens of
  // microseconds on a virtual machine) is saved. On an idle CPU this is a few system calls, not
  // polling. Trains are batches already: after one, more than one time costs more than it saves;
  // after a single packet more times shorten the round trip, at no cost under load.
  bool linger(const Turn& turn);
  int yields_max() const;
  // By the directions of this thread, so far.
  uint64_t received_bytes() const;
  // Waits for the events of a turn, the stop, or the time-out (negative: none). What the TUN had;
  // empty when nothing happened.
  std::optional<short> poll(const Turn& turn, int timeout_ms);
  void leave_tables();

  size_t reader_;
  Direction* other_ = nullptr;  // on the same thread
  bool taking_turn_ = false;
  bool ended_ = false;
  Turn asked_;           // what came of the last turn
  bool roused_ = false;  // poll found ready what the last turn asked for
  // Turns that poll called for in vain. A few are normal: datagrams with a wrong checksum, which
  // anybody can send, and which then cost the others these 20 ms at most.
  RateLimit vain_turns_{50, 20};
  uint64_t rest_until_ = 0;  // now_ns; 0: it does not rest
  int failed_polls_ = 0;     // in a row
  int yields_ = 0;
  bool several_ = false;  // packets, or a train, at the last turn that brought any
  bool woken_ = false;
  // Linux allows itself 1,000 ICMP errors a second (icmp_msgs_per_sec); a tunnel needs fewer.
  RateLimit icmp_limit_{100, 50};
  IcmpBuffer icmp_{};
};

// The call was not made: poll tells when to make it again.
bool is_try_again(int number);

// Errors that no later call can cure: the device was deleted or the descriptor is not ours.
bool is_final(int number);

}  // namespace flannelette
