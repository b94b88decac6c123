// Coalescing: the packets of a receive batch, several flows interleaved, become as few and as large
// TUN writes as possible. The opposite of segmentation, and the kernel's GRO done before the TUN:
// one system call and one walk through the network stack for a train instead of one per packet.
//
// Vocabulary: a *flow* is the packets of one source, destination, protocol and pair of ports; a
// *train* is packets of one flow, in order, that one TUN write carries. Linux cuts a train into
// segments of gso_size again where someone needs to see packets (inet_gso_segment,
// tcp_gso_segment, __udp_gso_segment), so a packet joins a train only when that cut gives back
// exactly the packets that came. Whatever does not qualify is a train of one, unchanged.
//
//   A1 B1 A2 ping A3 B2 A4(PSH) A5      as they came
//   [A1 A2 A3 A4] [B1 B2] [ping] [A5]   trains in the order of their first packets
//
// Order within a flow holds because only the newest train of a flow is ever open, and a packet that
// cannot join closes it. Between flows order is free, as on any network.
//
// A joining packet equals the train's first in everything but IP ID, lengths, checksums, TCP
// sequence number and PSH. Besides:
// - TCP: payload; flags ACK alone, or with ECE on all; PSH on the last only; sequence adjoins.
// - UDP: payload; checksum present; at most 64 packets (UDP_MAX_SEGMENTS before Linux 6.9).
// - Both: no IP options, no fragment; all payloads equal but the last, which may be shorter; IP IDs
//   ascending by one, or all the same with DF set (inet_gro_receive's rule; such a train's segments
//   get ascending IDs when cut, which RFC 6864 allows as DF makes the ID meaningless); IP packet
//   at most 65,535 bytes; the transport checksum right, because a train's is declared as still to
//   be completed and a wrong one would come out right. A checksum is looked at only when a packet
//   would join (and then the first's, once): packets that travel alone cost nothing.
//
// Payloads are not copied, nor is any byte of a packet changed: the train's header is written into
// the caller's TunHeader. So a write the kernel refuses (EINVAL since e269d79, Linux 6.6.44 and
// 6.1.103, for shapes that are fine; no USO) is repeated packet by packet with `originals`.
//
// One thread. Memory is allocated once, in the constructor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "core/ipv4.h"
#include "core/virtio_net.h"

namespace flannelette {

struct CoalesceOptions {
  bool tcp = true;
  bool udp = true;  // needs USO on the TUN (Linux 6.2)
};

// Packets of one train at most. 65,535 bytes are 46 segments of an MTU of 1,450 and 120 of 576.
inline constexpr size_t kTrainPacketsMax = 128;
// Pieces of one write at most: the headers, then a payload each. UIO_MAXIOV is 1024.
inline constexpr size_t kPiecesMax = kTrainPacketsMax + 1;
// Default number of packets in one batch.
inline constexpr size_t kCoalesceCapacity = 1024;

// Some bytes of a write. The members are iovec's, in its order (core includes no system header).
struct Piece {
  const void* base = nullptr;
  size_t length = 0;
};

// What stands in front of the payloads in one TUN write, back to back: the virtio-net header and,
// for a train of several, the IP and transport headers of the large packet.
struct TunHeader {
  VirtioNetHeader offload;
  std::array<uint8_t, ip::kHeaderMin + 60> packet;  // 60: the longest TCP header
};
static_assert(offsetof(TunHeader, packet) == sizeof(VirtioNetHeader));

class Coalescer {
 public:
  explicit Coalescer(CoalesceOptions options, size_t capacity = kCoalesceCapacity);

  // Takes effect with the next packet; for a kernel that refuses what it promised.
  void set_options(CoalesceOptions options) { options_ = options; }

  // Appends a packet that was checked and has its final TTL. Its bytes must stay as they are until
  // clear(). False when the batch is full: write the trains, clear() and add again.
  bool add(const Ipv4Packet& packet);

  // Trains, in the order they are to be written.
  size_t size() const { return train_count_; }
  // Packets of a train, and the bytes of them as they came.
  size_t packets(size_t train) const { return trains_[train].packets; }
  size_t bytes(size_t train) const {
    const Train& t = trains_[train];
    return t.length + size_t{t.packets - 1U} * t.header;
  }

  // One TUN write: fills in `header` and the pieces, the first of which is in `header`; returns how
  // many. `out` has room for packets(train) + 1, at most kPiecesMax. A train of one gets a virtio
  // header of zeros: its checksum was not verified, so nothing is claimed about it.
  size_t gather(size_t train, TunHeader& header, std::span<Piece> out) const;

  // The packets of a train as they came, a piece each and without virtio headers; returns how many.
  // `out` has room for packets(train), at most kTrainPacketsMax.
  size_t originals(size_t train, std::span<Piece> out) const;

  // Forgets the batch.
  void clear();

 private:
  struct Packet {
    const uint8_t* bytes;
    uint32_t length;
    uint32_t next;  // packet of the same train, unless this is its last
  };

  struct Train {
    uint32_t first;
    uint32_t last;
    uint32_t length;         // of the large IP packet
    uint32_t next_sequence;  // TCP
    uint16_t packets;
    uint16_t header;   // bytes of IP and transport header; 0 when nothing may join
    uint16_t segment;  // payload bytes of each packet but the last
    uint16_t id_step;  // of the IP IDs, known from the second packet on
    bool verified;     // the first packet's checksum
  };

  struct Flow {
    uint64_t addresses = 0;
    uint64_t transport = 0;  // ports and protocol
    bool operator==(const Flow&) const = default;
  };

  // What add() needs to know of a packet that may share a train.
  struct Segment {
    uint16_t header = 0;  // 0: travels alone
    uint16_t payload = 0;
    bool push = false;
  };

  // Open trains at a time. More flows at once than slots only make shorter trains.
  static constexpr size_t kSlots = 16;

  Segment inspect(std::span<const uint8_t> bytes) const;
  // Begins a train with the newest packet.
  void begin(const Segment& segment);
  // Appends the newest packet to the train when all rules hold.
  bool join(Train& train, const Segment& segment);
  // The slot of a flow with an open train, else used_.
  size_t find(const Flow& flow) const;
  // Makes the newest train the flow's open one, in the slot find() gave; a full table closes its
  // oldest train.
  void open(size_t slot, const Flow& flow);
  void close(size_t slot);
  void close_between(uint64_t addresses);

  CoalesceOptions options_;
  uint32_t capacity_;
  std::unique_ptr<Packet[]> packets_;
  std::unique_ptr<Train[]> trains_;
  uint32_t packet_count_ = 0;
  uint32_t train_count_ = 0;
  // The first used_ of the slots hold the open trains and their flows, in no order.
  size_t used_ = 0;
  size_t recent_ = 0;  // the slot used last
  std::array<Flow, kSlots> flows_;
  std::array<uint32_t, kSlots> open_{};
};

}  // namespace flannelette
