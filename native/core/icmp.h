// ICMP errors about packets the tunnel cannot carry (RFC 792, RFC 1122 section 3.2.2, RFC 1812).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "core/ipv4.h"

namespace flannelette {

enum class IcmpError : uint8_t {
  kNetUnreachable,  // type 3 code 0
  kTimeExceeded,    // type 11 code 0
  kFragNeeded,      // type 3 code 4, with the next hop's MTU (RFC 1191)
};

// An ICMP error is at most 576 bytes long (RFC 1812 section 4.3.2.3).
inline constexpr size_t kIcmpErrorMax = 576;
using IcmpBuffer = std::array<uint8_t, kIcmpErrorMax>;

// Whether a host may answer `original` with an ICMP error (RFC 1122): not about ICMP errors (echo
// and the other queries: yes), multicast or broadcast, fragments other than the first, or a source
// that is not a single host. `network` is the overlay, whose directed broadcast counts too.
bool may_send_icmp_error(const Ipv4Packet& original, Subnet network);

// The source of an error sent to `to` by the host that has `own` and its first address on the TUN:
// the TUN's address, but to the host's own containers the gateway's (flannel's FLANNEL_SUBNET). To
// a container the TUN's address is its own subnet's first, a broadcast address before Linux 5.14:
// such a source is dropped there, by 5.10 with rp_filter 1 or 2, by 4.4 always.
uint32_t icmp_error_source(uint32_t to, Subnet own, uint32_t tun_address);

// Writes an error about `original` from `source` (host order) into `out`; returns its length.
// Quotes the header and as many of the packet's own bytes as fit, never more than was received.
// `mtu`: of kFragNeeded, bytes.
size_t build_icmp_error(IcmpError error, const Ipv4Packet& original, uint32_t source,
                        IcmpBuffer& out, uint16_t mtu = 0);

}  // namespace flannelette
