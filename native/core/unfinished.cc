#include "core/unfinished.h"

#include "core/bytes.h"
#include "core/checksum.h"
#include "core/headers.h"

namespace flannelette {

std::optional<VirtioNetHeader> unfinished_offload(const Ipv4Packet& packet, size_t mtu) {
  const uint8_t protocol = packet.protocol();
  const bool is_tcp = protocol == protocol::kTcp;
  if (!is_tcp && protocol != protocol::kUdp) return std::nullopt;
  if ((load_be16(&packet.bytes()[ip::kFragment]) & ip::kFragmentBits) != 0) return std::nullopt;
  const std::span<const uint8_t> transport = packet.payload();
  if (transport.size() < (is_tcp ? tcp::kHeaderMin : udp::kHeader)) return std::nullopt;
  const size_t field = is_tcp ? tcp::kChecksum : udp::kChecksum;
  const uint16_t pseudo = fold_sum(pseudo_header_sum(
      packet.source(), packet.destination(), protocol, static_cast<uint16_t>(transport.size())));
  if (load_be16(&transport[field]) != pseudo) return std::nullopt;

  VirtioNetHeader offload;
  offload.flags = kNeedsChecksum;
  offload.checksum_start = static_cast<uint16_t>(packet.header_length());
  offload.checksum_offset = static_cast<uint16_t>(field);
  if (!is_tcp || packet.bytes().size() <= mtu) return offload;
  const size_t headers = packet.header_length() + size_t{transport[tcp::kDataOffset]} / 16 * 4;
  if (headers >= mtu || headers >= packet.bytes().size()) return offload;
  offload.gso_type = kGsoTcp4;
  offload.header_length = static_cast<uint16_t>(headers);
  offload.gso_size = static_cast<uint16_t>(mtu - headers);
  return offload;
}

}  // namespace flannelette
