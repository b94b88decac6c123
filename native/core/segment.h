// Segmentation: what a TUN with TSO or USO hands over, a packet of up to 65,535 bytes behind a
// VirtioNetHeader, becomes the packets of gso_size payload bytes that travel.
//
//   | IP | TCP | payload ---------------------- |
//   | IP'| TCP'| gso_size | IP'| TCP'| gso_size | IP'| TCP'| rest |
//
// As the kernel's own tcp_gso_segment, __udp_gso_segment and inet_gso_segment do it:
//  - IP: options, ToS, TTL, DF and addresses copied; total length and header checksum its own; the
//    first keeps the identification, each next one has one more, wrapping at 16 bits.
//  - TCP: the sequence number advances; FIN and PSH stay on the last, CWR on the first (RFC 3168;
//    TUN has no offload for AccECN, whose CWR differs); other flags, urgent pointer and options
//    copied.
//  - UDP: each has its own length and a checksum; 0 is sent as 0xffff (RFC 768).
//  - Transport checksums are computed over what is sent, whatever the packet's field held: with
//    kNeedsChecksum a pseudo-header sum, without it (legal) anything.
//
// The packet's own headers are the truth. The virtio header only says how long a segment is;
// header_length is not looked at, and where checksum_start and checksum_offset are given they must
// agree with the packet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/ipv4.h"
#include "core/virtio_net.h"

namespace flannelette {

// Why a packet with a header cannot be carried; the caller drops and counts it.
enum class SegmentFault : uint8_t {
  kNone,
  kBadOffload,  // header and packet contradict each other, or the offload is not one we support
};

// How a packet will be cut. A plan is a view: valid while the packet's bytes are.
class SegmentPlan {
 public:
  // Plans a packet whose header.gso_type is not kGsoNone. kBadOffload, and `out` must not be used:
  // an offload other than TCP over IPv4 (kGsoEcn or not) and UDP, or one that is not the packet's
  // protocol; gso_size 0; a fragment; a TCP or UDP header that does not lie within the packet, or a
  // TCP header shorter than 20 bytes; kNeedsChecksum for another field than the transport checksum.
  static SegmentFault make(const VirtioNetHeader& header, const Ipv4Packet& packet,
                           SegmentPlan& out);

  // Packets to come, at least one: gso_size may exceed the payload, and the payload be empty.
  size_t count() const { return count_; }
  // Bytes of each packet but the last, so of the first; with one packet, the same as last_length.
  size_t length() const { return count_ == 1 ? last_length_ : headers_ + gso_size_; }
  size_t last_length() const { return last_length_; }
  // Bytes of all packets. No bound but that of the packet and gso_size: 65,535 bytes of TCP in
  // segments of 1 are 2.7 MB. A caller with less room writes a part at a time, or drops.
  size_t bytes() const { return bytes(0, count_); }
  // Bytes of `count` packets from the `first` on; first + count <= count(). Packet i begins
  // i * length() bytes behind the first one.
  size_t bytes(size_t first, size_t count) const;

  // Writes all packets back to back. `out` has bytes() bytes and does not overlap the packet, which
  // is not changed, and which now has the TTL it shall travel with.
  void write(std::span<uint8_t> out) const { write(0, count_, out); }
  // Writes `count` packets from the `first` on, back to back, to bytes(first, count) bytes.
  void write(size_t first, size_t count, std::span<uint8_t> out) const;

 private:
  Ipv4Packet packet_;
  size_t headers_ = 0;   // bytes of IP and transport header together
  size_t gso_size_ = 1;  // payload bytes of each packet but the last
  size_t count_ = 0;
  size_t last_length_ = 0;
};

// Completes, in place, the checksum that kNeedsChecksum left undone in a packet whose gso_type is
// kGsoNone; without that flag does nothing. Whatever the transport: the field holds the sum to
// start from, and a checksum of 0 is stored as 0xffff, which is the same number (and what UDP
// wants). kBadOffload, the packet unchanged, when the field or the bytes to sum are not within the
// packet's payload.
SegmentFault complete_checksum(const VirtioNetHeader& header, const Ipv4Packet& packet);

}  // namespace flannelette
