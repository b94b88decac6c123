// Encapsulation: packets the kernel routed into the TUN become UDP datagrams to their next hops.
//
//   TUN --read--> [check, route, TTL - 1] --> ring --sendmmsg--> UDP
//   TUN --readv-> staging [check, route, TTL - 1, segment] --> ring --sendmmsg, trains--> UDP
//
// The first way carries bare packets, the second those of a TUN with a virtio header, which may be
// larger than the MTU and are cut into the packets that travel.
//
// The reader stage reads until the TUN is empty, the batch is full or the ring is; the writer stage
// then sends the batch. When the socket would block, packets stay in the ring and reading goes on
// until it is full; then the TUN's own queue holds on and drops. A large packet that finds no room
// stays in the staging buffer until there is.
#pragma once

#include "core/segment.h"
#include "core/virtio_net.h"
#include "engine/direction.h"
#include "engine/train_sender.h"

namespace flannelette {

class Encapsulation final : public Direction {
 public:
  explicit Encapsulation(const DirectionContext& context);

 protected:
  Turn turn() override;
  void finish() override;

 private:
  enum class Fill : uint8_t { kMore, kTunEmpty, kRingFull };
  enum class Drain : uint8_t { kDone, kBlocked };

  Fill fill() { return context_.vnet_header ? fill_staged() : fill_bare(); }
  Fill fill_bare();
  Fill fill_staged();
  // After a read that failed with errno `number`.
  Fill nothing_read(int number);

  // The next hop of a packet that may travel, its TTL one less; 0 when it was dropped (or is
  // answered). `packets`: how many it counts for.
  uint32_t admit(Ipv4Packet& packet, size_t packets, const ForwardingTable& table);
  // Checks what the staging buffer holds and plans its segments; false when it was dropped.
  bool stage(size_t received, const ForwardingTable& table);
  // Moves the staged packet into the ring; false when it has no room.
  bool place();

  Drain drain();
  // The kernel did not take the front: goes on without a feature, or drops it.
  void refused(const TrainSender::Outcome& outcome, const TrainSender::Limits& limits);
  static DropReason reason_for(int number);

  EventSource misses_;
  TrainSender sender_;
  VirtioNetHeader header_;
  SegmentPlan plan_;           // of a large packet
  bool staged_large_ = false;  // the staged packet is one
  size_t staged_bytes_ = 0;    // what it takes in the ring
  uint16_t port_ = 0;          // source port of the packet admitted last
  uint32_t staged_hop_ = 0;    // not 0: the staging buffer holds a packet for the ring
};

}  // namespace flannelette
