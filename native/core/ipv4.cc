#include "core/ipv4.h"

#include "core/bytes.h"
#include "core/checksum.h"

namespace flannelette {

PacketFault Ipv4Packet::parse(std::span<uint8_t> bytes, Ipv4Packet& out) {
  if (bytes.size() < kIpv4HeaderMin) return PacketFault::kShort;
  if (bytes[0] >> 4 != 4) return PacketFault::kBadVersion;
  const size_t header = size_t{bytes[0] & 0x0fU} * 4;
  if (header < kIpv4HeaderMin || header > bytes.size()) return PacketFault::kBadHeader;
  const size_t total = load_be16(&bytes[2]);
  if (total < header || total > bytes.size()) return PacketFault::kBadLength;
  if (internet_checksum(bytes.first(header)) != 0) return PacketFault::kBadChecksum;
  out.bytes_ = bytes.first(total);
  return PacketFault::kNone;
}

uint32_t Ipv4Packet::source() const { return load_be32(&bytes_[12]); }

uint32_t Ipv4Packet::destination() const { return load_be32(&bytes_[16]); }

size_t Ipv4Packet::fragment_offset() const { return size_t{load_be16(&bytes_[6]) & 0x1fffU} * 8; }

void Ipv4Packet::decrement_ttl() {
  const uint16_t before = load_be16(&bytes_[8]);
  bytes_[8] = static_cast<uint8_t>(bytes_[8] - 1);
  const uint16_t after = load_be16(&bytes_[8]);
  store_be16(&bytes_[10], checksum_update(load_be16(&bytes_[10]), before, after));
}

}  // namespace flannelette
