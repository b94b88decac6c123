#include "core/icmp.h"

#include <algorithm>
#include <cstring>

#include "core/bytes.h"
#include "core/checksum.h"

namespace flannelette {

namespace {

constexpr size_t kIcmpHeader = 8;
constexpr uint8_t kDefaultTtl = 64;
constexpr uint8_t kTypeUnreachable = 3;
constexpr uint8_t kTypeTimeExceeded = 11;

// Queries of RFC 792 and RFC 950; every other type is an error, or unknown and treated as one.
bool is_icmp_query(uint8_t type) { return type == 0 || type == 8 || (type >= 13 && type <= 18); }

// A source that names one host, as far as its bits tell (RFC 1122 section 3.2.1.3): not this
// network (0/8), loopback, multicast or class E, which holds the limited broadcast.
bool is_single_host(uint32_t address) {
  return address >> 24 != 0 && !is_loopback(address) && address >> 28 < 0xe;
}

}  // namespace

bool may_answer(const Ipv4Packet& offender, Subnet network) {
  if (offender.fragment_offset() != 0) return false;
  const uint32_t destination = offender.destination();
  if (is_multicast(destination) || destination == 0xffffffffU || destination == network.broadcast())
    return false;
  const uint32_t source = offender.source();
  if (!is_single_host(source) || source == network.broadcast()) return false;
  if (offender.protocol() == kProtocolIcmp) {
    const auto payload = offender.payload();
    return !payload.empty() && is_icmp_query(payload[0]);
  }
  return true;
}

uint32_t icmp_error_source(uint32_t to, Subnet own, uint32_t tun_address) {
  // The host itself has the TUN's address, and subnets below a length of 30 have no gateway.
  const bool container = own.contains(to) && to != tun_address && own.prefix <= 30;
  return container ? own.network + 1 : tun_address;
}

size_t build_icmp_error(IcmpError error, const Ipv4Packet& offender, uint32_t source,
                        IcmpBuffer& out) {
  const auto original = offender.bytes();
  const size_t quoted = std::min(original.size(), kIcmpErrorMax - kIpv4HeaderMin - kIcmpHeader);
  const size_t total = kIpv4HeaderMin + kIcmpHeader + quoted;

  uint8_t* ip = out.data();
  std::memset(ip, 0, kIpv4HeaderMin + kIcmpHeader);
  ip[0] = 0x45;
  ip[1] = 0xc0;  // precedence 6, internetwork control (RFC 1812 section 4.3.2.5)
  store_be16(ip + 2, static_cast<uint16_t>(total));
  ip[8] = kDefaultTtl;
  ip[9] = kProtocolIcmp;
  store_be32(ip + 12, source);
  store_be32(ip + 16, offender.source());
  store_be16(ip + 10, internet_checksum({ip, kIpv4HeaderMin}));

  uint8_t* icmp = ip + kIpv4HeaderMin;
  icmp[0] = error == IcmpError::kTimeExceeded ? kTypeTimeExceeded : kTypeUnreachable;
  std::memcpy(icmp + kIcmpHeader, original.data(), quoted);
  store_be16(icmp + 2, internet_checksum({icmp, kIcmpHeader + quoted}));
  return total;
}

}  // namespace flannelette
