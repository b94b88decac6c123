#include "core/icmp.h"

#include <algorithm>
#include <cstring>

#include "core/bytes.h"
#include "core/checksum.h"

namespace flannelette {

namespace {

constexpr uint8_t kDefaultTtl = 64;

// Queries of RFC 792 and RFC 950; every other type is an error, or unknown and treated as one.
bool is_icmp_query(uint8_t type) { return type == 0 || type == 8 || (type >= 13 && type <= 18); }

// A source that names one host, as far as its bits tell (RFC 1122 section 3.2.1.3): not this
// network (0/8), loopback, multicast or class E, which holds the limited broadcast.
bool is_single_host(uint32_t address) {
  return address >> 24 != 0 && !is_loopback(address) && address >> 28 < 0xe;
}

}  // namespace

bool may_send_icmp_error(const Ipv4Packet& original, Subnet network) {
  if (original.fragment_offset() != 0) return false;
  const uint32_t destination = original.destination();
  if (is_multicast(destination) || destination == 0xffffffffU || destination == network.broadcast())
    return false;
  const uint32_t source = original.source();
  if (!is_single_host(source) || source == network.broadcast()) return false;
  if (original.protocol() == protocol::kIcmp) {
    const auto payload = original.payload();
    return !payload.empty() && is_icmp_query(payload[0]);
  }
  return true;
}

uint32_t icmp_error_source(uint32_t to, Subnet own, uint32_t tun_address) {
  // The host itself has the TUN's address, and subnets below a length of 30 have no gateway.
  const bool container = own.contains(to) && to != tun_address && own.prefix <= 30;
  return container ? own.network + 1 : tun_address;
}

size_t build_icmp_error(IcmpError error, const Ipv4Packet& original, uint32_t source,
                        IcmpBuffer& out, uint16_t mtu) {
  const auto bytes = original.bytes();
  const size_t quoted = std::min(bytes.size(), kIcmpErrorMax - ip::kHeaderMin - icmp::kHeader);
  const size_t total = ip::kHeaderMin + icmp::kHeader + quoted;

  uint8_t* head = out.data();
  std::memset(head, 0, ip::kHeaderMin + icmp::kHeader);
  head[0] = 0x45;
  head[1] = 0xc0;  // precedence 6, internetwork control (RFC 1812 section 4.3.2.5)
  store_be16(head + ip::kTotalLength, static_cast<uint16_t>(total));
  head[ip::kTtl] = kDefaultTtl;
  head[ip::kProtocol] = protocol::kIcmp;
  store_be32(head + ip::kSource, source);
  store_be32(head + ip::kDestination, original.source());
  store_be16(head + ip::kChecksum, internet_checksum({head, ip::kHeaderMin}));

  uint8_t* message = head + ip::kHeaderMin;
  message[0] = error == IcmpError::kTimeExceeded ? icmp::kTimeExceeded : icmp::kUnreachable;
  if (error == IcmpError::kFragNeeded) {
    message[1] = icmp::kFragNeededCode;
    store_be16(message + icmp::kNextHopMtu, mtu);
  }
  std::memcpy(message + icmp::kHeader, bytes.data(), quoted);
  store_be16(message + icmp::kChecksum, internet_checksum({message, icmp::kHeader + quoted}));
  return total;
}

}  // namespace flannelette
