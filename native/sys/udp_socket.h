// The sockets of the tunnel: UDP for encapsulated packets, raw for ICMP errors.
#pragma once

#include <cstdint>

#include "core/result.h"
#include "sys/owned_fd.h"

namespace flannelette {

// A non-blocking UDP socket bound to address:port (host order). Checksums on, DSCP and ECN 0, the
// kernel's path MTU discovery: all defaults, as flanneld leaves them. `buffer_bytes` sets both
// socket buffers, past rmem_max and wmem_max where CAP_NET_ADMIN allows; 0 leaves the defaults.
Result<OwnedFd> open_udp_socket(uint32_t address, uint16_t port, int buffer_bytes);

// Whether the kernel knows UDP_SEGMENT (4.18): 0, or an errno. Changes nothing.
int check_udp_gso(int fd);
// Lets the kernel hand over trains of datagrams, each receive with a UDP_GRO control message that
// tells their length. 0 or an errno: EOPNOTSUPP on kernels whose UDP_GRO loses packets.
int enable_udp_gro(int fd);

// A raw socket that sends whole IPv4 packets (IP_HDRINCL) and receives none. ICMP errors go out
// here and not into the TUN: the kernel refuses packets that arrive from a device with the host's
// own address as source (martian source).
Result<OwnedFd> open_raw_socket();

}  // namespace flannelette
