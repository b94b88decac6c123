// What the data-plane threads tell the control plane: fixed-size records over a pipe.
//
// A record is 16 bytes, below PIPE_BUF, so writes of several threads never mix. Writing never
// waits: a full pipe drops the record and the thread counts it. What may come any number of times
// is rate-limited per kind, with what was held back in the next record's `repeated`, and stops at
// half a pipe: a control plane that is blocked for long still hears of a fault afterwards.
// src/dataplane/events.ts decodes the records.
#pragma once

#include <cstdint>

#include "core/counters.h"
#include "core/rate_limit.h"
#include "core/result.h"
#include "sys/owned_fd.h"

namespace flannelette {

enum class EventType : uint32_t {
  kMiss = 1,             // address: the inner destination without a route
  kDatagramRefused = 2,  // address: the outer source of a datagram the source check refused;
                         // detail: 1 when that host holds a lease, else 0
  kFault = 3,  // detail: errno; address: the operation (FaultSource). The thread has ended.
  kFeatureRefused = 4,  // detail: errno; address: the KernelFeature that was switched off
  kPathMtu = 5,  // address: a next hop; detail: bytes of the longest inner packet that reaches it
                 // whole, 0: as many as the TUN takes, or nothing is known any more
};

enum class FaultSource : uint32_t { kTun = 1, kUdp = 2 };

// In the machine's byte order: both ends of the pipe are in one process.
struct EventRecord {
  EventType type;
  uint32_t detail;
  uint32_t address;
  uint32_t repeated;
};
static_assert(sizeof(EventRecord) == 16);

class EventPipe {
 public:
  static Result<EventPipe> open();

  // False when the pipe was full or closed at the other end.
  bool write(const EventRecord& record) const;

  // The same of a record that may be lost: false also when the pipe is half full.
  bool write_if_room(const EventRecord& record) const;

  // Ends writing; the owner of the read end can still read what was written.
  void close() {
    write_end_.reset();
    read_end_.reset();
  }

  // The read end, once; the caller closes it. -1 when it was taken or the pipe closed.
  int take_read_end() { return read_end_.release(); }

 private:
  EventPipe(OwnedFd read_end, OwnedFd write_end)
      : read_end_(std::move(read_end)), write_end_(std::move(write_end)) {}

  OwnedFd read_end_;
  OwnedFd write_end_;
};

// One kind of event of one thread: at most 10 a second, the rest counted into `repeated`.
class EventSource {
 public:
  EventSource(const EventPipe& pipe, EventType type, uint32_t detail = 0)
      : pipe_(pipe), type_(type), detail_(detail) {}

  void report(uint32_t address, uint64_t now_ns, ThreadCounters& counters);

 private:
  const EventPipe& pipe_;
  EventType type_;
  uint32_t detail_;
  RateLimit limit_{10, 10};
  uint32_t held_back_ = 0;
};

}  // namespace flannelette
