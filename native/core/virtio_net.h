// The header in front of each packet of a TUN opened with IFF_VNET_HDR (Linux 2.6.27): struct
// virtio_net_hdr of linux/virtio_net.h, 10 bytes in host order, legacy layout (TUNSETVNETHDRSZ is
// left at its default).
//
// It lets both sides leave work undone: a checksum still to be completed, and a packet larger than
// the MTU still to be cut into segments of gso_size bytes of payload.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flannelette {

struct VirtioNetHeader {
  uint8_t flags = 0;
  uint8_t gso_type = 0;
  uint16_t header_length = 0;    // bytes in front of the payload; a hint, not to be trusted
  uint16_t gso_size = 0;         // payload bytes of each segment but the last
  uint16_t checksum_start = 0;   // where the bytes to sum begin
  uint16_t checksum_offset = 0;  // of the field to store the sum in, from checksum_start
};
static_assert(sizeof(VirtioNetHeader) == 10);

// VIRTIO_NET_HDR_F_*: the field at checksum_start + checksum_offset holds the pseudo-header's sum;
// the checksum over checksum_start to the end belongs there.
inline constexpr uint8_t kNeedsChecksum = 1;
// The checksum was verified; the receiver need not.
inline constexpr uint8_t kDataValid = 2;

// VIRTIO_NET_HDR_GSO_*.
inline constexpr uint8_t kGsoNone = 0;
inline constexpr uint8_t kGsoTcp4 = 1;
inline constexpr uint8_t kGsoUdpL4 = 5;  // Linux 6.2 on a TUN
// Set beside kGsoTcp4: CWR is on the first segment only (RFC 3168); asked for by TUN_F_TSO_ECN.
inline constexpr uint8_t kGsoEcn = 0x80;

}  // namespace flannelette
