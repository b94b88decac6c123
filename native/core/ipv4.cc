#include "core/ipv4.h"

#include "core/bytes.h"
#include "core/checksum.h"

namespace flannelette {

PacketFault Ipv4Packet::parse(std::span<uint8_t> bytes, Ipv4Packet& out) {
  if (bytes.size() < ip::kHeaderMin) return PacketFault::kShort;
  if (bytes[0] >> 4 != 4) return PacketFault::kBadVersion;
  const size_t header = size_t{bytes[0] & 0x0fU} * 4;
  if (header < ip::kHeaderMin || header > bytes.size()) return PacketFault::kBadHeader;
  const size_t total = load_be16(&bytes[ip::kTotalLength]);
  if (total < header || total > bytes.size()) return PacketFault::kBadLength;
  if (internet_checksum(bytes.first(header)) != 0) return PacketFault::kBadChecksum;
  out.bytes_ = bytes.first(total);
  return PacketFault::kNone;
}

uint32_t Ipv4Packet::source() const { return load_be32(&bytes_[ip::kSource]); }

uint32_t Ipv4Packet::destination() const { return load_be32(&bytes_[ip::kDestination]); }

size_t Ipv4Packet::fragment_offset() const {
  return size_t{8} * (load_be16(&bytes_[ip::kFragment]) & ip::kFragmentOffset);
}

void Ipv4Packet::decrement_ttl() {
  const uint16_t before = load_be16(&bytes_[ip::kTtl]);
  bytes_[ip::kTtl] = static_cast<uint8_t>(bytes_[ip::kTtl] - 1);
  const uint16_t after = load_be16(&bytes_[ip::kTtl]);
  store_be16(&bytes_[ip::kChecksum],
             checksum_update(load_be16(&bytes_[ip::kChecksum]), before, after));
}

}  // namespace flannelette
