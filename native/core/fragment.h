// Fragmentation of an IPv4 packet (RFC 791 section 3.2), as Linux does it: for packets without DF
// that are longer than the path of the tunnel takes. Fragmented as inner packets, they are put
// together by their receiver, and a lost fragment costs what it costs without a tunnel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/ipv4.h"

namespace flannelette {

// How a packet will be cut. A plan is a view: valid while the packet's bytes are.
class FragmentPlan {
 public:
  // `limit`: bytes of the longest fragment, at least 68 (RFC 791). The packet may be a fragment.
  FragmentPlan(const Ipv4Packet& packet, size_t limit);

  size_t count() const { return count_; }
  // Of each fragment but the last, and of the last.
  size_t length() const { return header_ + chunk_; }
  size_t last_length() const { return header_ + payload_ - (count_ - 1) * chunk_; }
  // Of all, back to back.
  size_t bytes() const { return count_ * header_ + payload_; }

  // Writes all fragments back to back to bytes() bytes, which may begin where the packet does, or
  // do not overlap it.
  void write(std::span<uint8_t> out) const;

 private:
  Ipv4Packet packet_;
  size_t header_;   // bytes of the IP header
  size_t payload_;  // bytes behind it
  size_t chunk_;    // payload of each fragment but the last, a multiple of 8
  size_t count_;
};

inline bool forbids_fragments(const Ipv4Packet& packet) {
  return (packet.bytes()[ip::kFragment] & (ip::kDontFragment >> 8)) != 0;
}

}  // namespace flannelette
