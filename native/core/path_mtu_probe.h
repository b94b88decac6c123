// The probe of a path: an ICMP echo request from this host's TUN address to the other one's, inside
// the datagram that any packet of the tunnel travels in. The other host's kernel answers it,
// whoever runs the tunnel there (flanneld too), so a reply of the request's length says that a
// packet of that length came through. The outer header has DF set, else routers would fragment it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "core/ipv4.h"

namespace flannelette {

struct PathMtuProbe {
  uint32_t outer_source = 0;  // 0: the kernel's choice, and the datagram has no checksum
  uint32_t outer_destination = 0;
  uint16_t port = 0;  // both ports of the tunnel
  uint32_t inner_source = 0;
  uint32_t inner_destination = 0;
  uint16_t identifier = 0;  // of the echo
  uint64_t secret = 0;      // in its payload: who did not see the probe cannot answer it
  uint16_t size = 0;        // bytes of the inner packet, at least kProbeSmallest
};

inline constexpr size_t kOuterHeaders = ip::kHeaderMin + udp::kHeader;
inline constexpr size_t kProbeSmallest = ip::kHeaderMin + icmp::kHeader + sizeof(uint64_t);

// Writes the whole outer packet; `out` has kOuterHeaders + probe.size bytes, which are returned.
// The outer identification and header checksum are left to the kernel (IP_HDRINCL, raw(7)).
size_t write_path_mtu_probe(const PathMtuProbe& probe, std::span<uint8_t> out);

// What a reply tells; empty when the packet is none.
struct PathMtuReply {
  uint32_t source = 0;
  uint64_t secret = 0;
  uint16_t size = 0;  // of the inner packet
};
std::optional<PathMtuReply> read_path_mtu_reply(std::span<uint8_t> packet);

}  // namespace flannelette
