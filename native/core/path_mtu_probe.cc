#include "core/path_mtu_probe.h"

#include <cstring>

#include "core/bytes.h"
#include "core/checksum.h"

namespace flannelette {

namespace {

constexpr uint8_t kTtl = 64;
constexpr size_t kSecretAt = icmp::kHeader;

void write_ip_header(uint8_t* to, size_t length, uint8_t protocol, uint32_t source,
                     uint32_t destination) {
  to[0] = 0x45;
  store_be16(to + ip::kTotalLength, static_cast<uint16_t>(length));
  to[ip::kTtl] = kTtl;
  to[ip::kProtocol] = protocol;
  store_be32(to + ip::kSource, source);
  store_be32(to + ip::kDestination, destination);
}

uint64_t load_be64(const uint8_t* p) { return uint64_t{load_be32(p)} << 32 | load_be32(p + 4); }

}  // namespace

size_t write_path_mtu_probe(const PathMtuProbe& probe, std::span<uint8_t> out) {
  const size_t total = kOuterHeaders + probe.size;
  std::memset(out.data(), 0, total);

  uint8_t* inner = &out[kOuterHeaders];
  write_ip_header(inner, probe.size, protocol::kIcmp, probe.inner_source, probe.inner_destination);
  store_be16(inner + ip::kChecksum, internet_checksum({inner, ip::kHeaderMin}));
  uint8_t* echo = inner + ip::kHeaderMin;
  echo[0] = icmp::kEcho;
  store_be16(echo + icmp::kId, probe.identifier);
  store_be16(echo + icmp::kSequence, probe.size);
  store_be32(echo + kSecretAt, static_cast<uint32_t>(probe.secret >> 32));
  store_be32(echo + kSecretAt + 4, static_cast<uint32_t>(probe.secret));
  store_be16(echo + icmp::kChecksum, internet_checksum({echo, probe.size - ip::kHeaderMin}));

  uint8_t* outer = out.data();
  write_ip_header(outer, total, protocol::kUdp, probe.outer_source, probe.outer_destination);
  store_be16(outer + ip::kFragment, ip::kDontFragment);
  uint8_t* datagram = outer + ip::kHeaderMin;
  const auto length = static_cast<uint16_t>(udp::kHeader + probe.size);
  store_be16(datagram, probe.port);
  store_be16(datagram + 2, probe.port);
  store_be16(datagram + udp::kLength, length);
  if (probe.outer_source != 0) {
    const auto checksum = static_cast<uint16_t>(~ones_complement_sum(
        {datagram, length},
        pseudo_header_sum(probe.outer_source, probe.outer_destination, protocol::kUdp, length)));
    store_be16(datagram + udp::kChecksum, checksum == 0 ? uint16_t{0xffff} : checksum);
  }
  return total;
}

std::optional<PathMtuReply> read_path_mtu_reply(std::span<uint8_t> packet) {
  Ipv4Packet view;
  if (Ipv4Packet::parse(packet, view) != PacketFault::kNone) return std::nullopt;
  const auto echo = view.payload();
  if (view.protocol() != protocol::kIcmp || echo.size() < icmp::kHeader + sizeof(uint64_t) ||
      echo[0] != icmp::kEchoReply || internet_checksum(echo) != 0)
    return std::nullopt;
  const auto size = static_cast<uint16_t>(view.bytes().size());
  if (load_be16(&echo[icmp::kSequence]) != size) return std::nullopt;
  return PathMtuReply{view.source(), load_be64(&echo[kSecretAt]), size};
}

}  // namespace flannelette
