// Encapsulation: packets the kernel routed into the TUN become UDP datagrams to their next hops.
//
//   TUN --read--> [check, route, TTL - 1] --> ring --sendmmsg--> UDP
//
// The reader stage reads until the TUN is empty, the batch is full or the ring is; the writer stage
// then sends the batch. When the socket would block, packets stay in the ring and reading goes on
// until it is full; then the TUN's own queue holds on and drops.
#pragma once

#include <netinet/in.h>

#include <array>

#include "engine/direction.h"

namespace flannelette {

class Encapsulation final : public Direction {
 public:
  explicit Encapsulation(const DirectionContext& context);

 protected:
  void run() override;

 private:
  enum class Fill : uint8_t { kMore, kTunEmpty, kRingFull };
  enum class Drain : uint8_t { kDone, kBlocked };

  Fill fill();
  Drain drain();
  // Checks and routes one packet of the TUN and puts it into the ring.
  void admit(std::span<uint8_t> reservation, size_t received, const ForwardingTable& table);
  // Hands up to `count` packets to the kernel: how many it took, or a negative errno.
  int send(size_t count);
  // Accounts the first packet as not sendable.
  void drop_first(int number);

  EventSource misses_;
  std::array<sockaddr_in, kBatchMax> addresses_;
  std::array<iovec, kBatchMax> buffers_;
  std::array<mmsghdr, kBatchMax> messages_;
};

}  // namespace flannelette
