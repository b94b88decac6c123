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
//
// Packets longer than the path to their next hop takes (core/path_mtu_table.h): a large TCP packet
// is cut into segments that fit; one with DF is dropped and answered by ICMP (RFC 1191); all others
// are fragmented as inner packets.
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

  // What admit has to know beside the packet.
  struct Load {
    size_t packets;           // it counts for
    size_t longest;           // bytes of the longest packet that travels
    bool resegments = false;  // it can be cut into shorter ones without fragments
  };
  // The next hop of a packet that may travel, its TTL one less and limit_ set; 0 when it was
  // dropped (or is answered).
  uint32_t admit(Ipv4Packet& packet, const Load& load, const ForwardingTable& table);
  // Bytes of the longest packet that reaches the next hop, as far as known; for one of `length`.
  size_t limit_to(uint32_t next_hop, size_t length);
  // Checks what the staging buffer holds and plans its segments; false when it was dropped.
  bool stage(size_t received, const ForwardingTable& table);
  // Plans the staged packet anew, within limit_.
  void cut_staged(const Ipv4Packet& packet);
  // Moves the staged packet into the ring; false when it has no room.
  bool place();
  // Writes a packet's fragments to the reservation, from `at` on, and commits them; where they end.
  size_t place_fragments(const Ipv4Packet& packet, size_t limit, std::span<uint8_t> space,
                         size_t at, uint32_t next_hop);

  Drain drain();
  // The kernel did not take the front: goes on without a feature, or drops it.
  void refused(const TrainSender::Outcome& outcome, const TrainSender::Limits& limits);
  static DropReason reason_for(int number);

  EventSource misses_;
  TrainSender sender_;
  VirtioNetHeader header_;
  SegmentPlan plan_;           // of a large packet
  bool staged_large_ = false;  // the staged packet is one
  size_t staged_length_ = 0;   // as it was read
  size_t staged_bytes_ = 0;    // what it takes in the ring
  size_t staged_records_ = 0;  // and packets
  size_t staged_limit_ = 0;    // bytes of its fragments; 0: it needs none
  size_t limit_ = 0;           // of the packet admitted last
  uint16_t port_ = 0;          // source port of the packet admitted last
  uint32_t staged_hop_ = 0;    // not 0: the staging buffer holds a packet for the ring
};

}  // namespace flannelette
