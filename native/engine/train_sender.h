// The writer stage of encapsulation: packets of the ring become datagrams, as few system calls as
// the kernel allows.
//
// Vocabulary: a *run* is neighbouring packets of the ring of one length to one next hop by one
// source port, back to back in memory, the last of them perhaps shorter; a *train* is a run sent by
// one message with UDP_SEGMENT, which the kernel cuts into one datagram for each packet; a *batch*
// is the messages of one sendmmsg. A run longer than a train is split evenly: a long train and a
// stub would cost the receiver twice. The wire is the same with and without trains.
//
// With several source ports a flow leaves by the one its hash picks, so that it keeps its order
// while network cards and equal-cost paths, which hash the outer header, can tell flows apart. A
// batch is what one socket sends: packets of the same port at the front of the ring.
//
// Nothing is lost when the kernel refuses: what it did not take is offered again without the
// feature. EIO switches trains off for good (no checksum offload on the way out, up to Linux 6.10;
// xfrm); EINVAL and EMSGSIZE, which a next hop behind a smaller path MTU gives, for that next hop
// and a while.
#pragma once

#include <netinet/in.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/flow_hash.h"
#include "core/packet_ring.h"
#include "sys/io.h"

namespace flannelette {

// UDP_MAX_SEGMENTS before Linux 6.9; 128 since.
inline constexpr size_t kSendSegmentsMax = 64;
// The greatest UDP payload, which a train must not exceed either.
inline constexpr size_t kSendBytesMax = 65507;

class TrainSender {
 public:
  // `fds`: a socket for each source port; `port`: the destination's, host order.
  TrainSender(Io& io, std::vector<int> fds, uint16_t port);

  // Index of the source port a packet leaves by.
  uint16_t port_for(const Ipv4Packet& packet) const {
    if (fds_.size() == 1) return 0;
    return static_cast<uint16_t>(uint64_t{flow_hash(packet)} * fds_.size() >> 32);
  }
  // The socket of the front of a ring that is not empty.
  int front_fd(const PacketRing& ring) const { return fds_[ring.peek(0).port]; }

  // How a batch may be made.
  struct Limits {
    size_t messages;  // in one call
    bool mmsg;
    bool trains;
  };

  // What one call did with the packets at the front of the ring.
  struct Outcome {
    int error = 0;       // a negative errno: the front was not taken
    size_t packets = 0;  // sent, from the front
    size_t bytes = 0;
    size_t front = 0;  // packets of the first message; more than one: a train
  };

  // Offers the front of a ring that is not empty.
  Outcome send(PacketRing& ring, const Limits& limits);

  // Sends what goes to this next hop one by one until `until` (CLOCK_MONOTONIC, nanoseconds).
  void avoid_trains(uint32_t next_hop, uint64_t until);
  // Forgets next hops whose time is over.
  void revise(uint64_t now);
  bool avoids_any() const { return avoided_count_ != 0; }

 private:
  static constexpr size_t kMessagesMax = 64;
  static constexpr size_t kAvoidedMax = 16;
  struct Avoided {
    uint32_t next_hop;
    uint64_t until;
  };
  // Aligned and sized for one control message with a uint16_t.
  struct alignas(cmsghdr) Control {
    std::array<uint8_t, CMSG_SPACE(sizeof(uint16_t))> bytes;
  };

  // Fills message `m` with the packets from ring position `at` on; returns how many.
  size_t put(PacketRing& ring, size_t at, size_t m, bool trains);
  // How many packets from `at` on one train takes; 1 for none.
  size_t train_length(const PacketRing& ring, size_t at) const;
  bool avoided(uint32_t next_hop) const;

  Io& io_;
  std::vector<int> fds_;
  std::array<Avoided, kAvoidedMax> avoided_{};
  size_t avoided_count_ = 0;
  std::array<size_t, kMessagesMax> packets_{};  // of each message
  std::array<sockaddr_in, kMessagesMax> addresses_;
  std::array<iovec, kMessagesMax> buffers_{};
  std::array<Control, kMessagesMax> controls_{};
  std::array<mmsghdr, kMessagesMax> messages_{};
};

}  // namespace flannelette
