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
};

// An ICMP error is at most 576 bytes long (RFC 1812 section 4.3.2.3).
inline constexpr size_t kIcmpErrorMax = 576;
using IcmpBuffer = std::array<uint8_t, kIcmpErrorMax>;

// Whether a host may answer `offender` with an ICMP error (RFC 1122): not about ICMP errors (echo
// and the other queries: yes), multicast or broadcast, fragments other than the first, or a source
// that is not a single host. `network` is the overlay, whose directed broadcast counts too.
bool may_answer(const Ipv4Packet& offender, Subnet network);

// Writes an error about `offender` from `source` (host order) into `out`; returns its length.
// Quotes the header and as many of the packet's own bytes as fit, never more than was received.
size_t build_icmp_error(IcmpError error, const Ipv4Packet& offender, uint32_t source,
                        IcmpBuffer& out);

}  // namespace flannelette
