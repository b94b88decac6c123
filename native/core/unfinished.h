// Packets whose sender left the TCP or UDP checksum, and perhaps segmentation, to a network device.
//
// A packet that a local veth (or virtio) device sends carries only the sum of the pseudo-header in
// its checksum field; the device it leaves by is to complete it (CHECKSUM_PARTIAL), and to cut what
// is longer than the MTU. An in-kernel sender of the tunnel (FOU, eBPF) puts such a packet into a
// datagram as it is, and between virtual machines or namespaces no device ever completes it: it
// arrives whole. Written to a TUN like that, the receiver would drop it.
#pragma once

#include <cstddef>
#include <optional>

#include "core/ipv4.h"
#include "core/virtio_net.h"

namespace flannelette {

// What is left to do on a whole TCP or UDP packet whose checksum field holds the pseudo-header's
// sum: the checksum, and for TCP longer than `mtu` bytes the segmentation into packets of at most
// `mtu`. Empty when nothing is left to do.
//
// A complete checksum has that value once in 65,535; completing it again gives the same number.
std::optional<VirtioNetHeader> unfinished_offload(const Ipv4Packet& packet, size_t mtu);

}  // namespace flannelette
