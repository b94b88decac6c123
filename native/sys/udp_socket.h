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

// A raw socket that sends whole IPv4 packets (IP_HDRINCL) and receives none. ICMP errors go out
// here and not into the TUN: the kernel refuses packets that arrive from a device with the host's
// own address as source (martian source).
Result<OwnedFd> open_raw_socket();

}  // namespace flannelette
