// What Linux makes of a TUN write with a virtio-net header, in the tests' slow and obvious way: the
// checks of __virtio_net_hdr_to_skb (as of 6.11) and the cut into segments that GSO would do.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>

#include "core/coalesce.h"
#include "packets.h"

namespace flannelette::test {

inline Bytes piece_bytes(const Piece& piece) {
  const auto* at = static_cast<const uint8_t*>(piece.base);
  return {at, at + piece.length};
}

// The bytes of all pieces, as writev would see them.
inline TunWrite tun_write(std::span<const Piece> pieces) {
  Bytes all;
  for (const Piece& piece : pieces) {
    const Bytes bytes = piece_bytes(piece);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  TunWrite out;
  std::memcpy(&out.offload, all.data(), sizeof(out.offload));
  out.packet.assign(all.begin() + sizeof(out.offload), all.end());
  return out;
}

// Why Linux would refuse the write or deliver something else than meant; null when all is well.
inline const char* kernel_objection(const TunWrite& write) {
  const VirtioNetHeader& offload = write.offload;
  const Bytes& packet = write.packet;
  if (packet.size() < 20 || packet.size() > 65535) return "length";
  if (word_at(packet, 2) != packet.size()) return "total length";
  if (naive_checksum(std::span(packet).first(size_t{packet[0] & 15U} * 4)) != 0)
    return "header checksum";
  if (offload.gso_type == kGsoNone) {
    static constexpr VirtioNetHeader kZero;
    return std::memcmp(&offload, &kZero, sizeof(kZero)) == 0 ? nullptr : "header of a single";
  }
  const bool udp = offload.gso_type == kGsoUdpL4;
  if (!udp && offload.gso_type != kGsoTcp4) return "type";
  if (packet[9] != (udp ? 17 : 6)) return "protocol of the type";
  if (packet[0] != 0x45) return "IP options";
  if (offload.flags != kNeedsChecksum) return "flags";
  if (offload.checksum_start != 20) return "checksum start";
  if (offload.checksum_offset != (udp ? 6 : 16)) return "checksum offset";
  const size_t header = 20 + (udp ? 8 : size_t{packet[32]} / 16 * 4);
  if (offload.header_length != header || header > packet.size()) return "header length";
  if (offload.gso_size == 0 || offload.gso_size == 0xffff) return "segment size";
  const size_t payload = packet.size() - header;
  if (payload <= offload.gso_size) return "too small to cut";
  if (udp && payload > size_t{offload.gso_size} * 64) return "too many segments";
  if (udp && word_at(packet, 24) != packet.size() - 20) return "UDP length";
  // Completed as a device without segmentation would (it sums over the field as it stands), the
  // checksum must be right.
  const uint16_t completed = naive_checksum(std::span(packet).subspan(20));
  if (completed != transport_checksum(packet) && !(udp && completed == 0))
    return "partial checksum";
  return nullptr;
}

// What a device without checksum offload puts into the field of a packet that is not to be cut.
inline Bytes completed(const TunWrite& write) {
  Bytes packet = write.packet;
  if ((write.offload.flags & kNeedsChecksum) == 0) return packet;
  const size_t start = write.offload.checksum_start;
  const uint16_t sum = naive_checksum(std::span(packet).subspan(start));
  put_word(packet, start + write.offload.checksum_offset, sum == 0 ? 0xffff : sum);
  return packet;
}

// The packets that come out when the write is cut.
inline std::vector<Bytes> cut(const TunWrite& write) {
  const Bytes& packet = write.packet;
  if (write.offload.gso_type == kGsoNone) return {completed(write)};
  const bool udp = packet[9] == 17;
  const size_t ip = size_t{packet[0] & 15U} * 4;
  const size_t header = ip + (udp ? 8 : size_t{packet[ip + 12]} / 16 * 4);
  const size_t size = write.offload.gso_size;
  std::vector<Bytes> out;
  for (size_t at = header; at < packet.size(); at += size) {
    const size_t end = std::min(at + size, packet.size());
    Bytes segment(packet.begin(), packet.begin() + static_cast<ptrdiff_t>(header));
    segment.insert(segment.end(), packet.begin() + static_cast<ptrdiff_t>(at),
                   packet.begin() + static_cast<ptrdiff_t>(end));
    put_word(segment, 2, static_cast<uint32_t>(segment.size()));
    put_word(segment, 4, static_cast<uint32_t>(word_at(packet, 4) + out.size()) & 0xffff);
    fix_checksum(segment);
    if (udp) {
      put_word(segment, ip + 4, static_cast<uint32_t>(segment.size() - ip));
    } else {
      put_long(segment, ip + 4, static_cast<uint32_t>(long_at(packet, ip + 4) + (at - header)));
      if (end != packet.size()) segment[ip + 13] &= 0xf6;  // FIN and PSH on the last
      if (at != header) segment[ip + 13] &= 0x7f;          // CWR on the first
    }
    fix_transport_checksum(segment);
    out.push_back(segment);
  }
  return out;
}

// Whether a segment is the packet it was. The ID of a packet with DF means nothing, so that trains
// of one ID are allowed; `fixed_id` says the train is one.
inline bool same_packet(Bytes segment, const Bytes& packet, bool fixed_id) {
  if (fixed_id && segment.size() >= 20) {
    put_word(segment, 4, word_at(packet, 4));
    fix_checksum(segment);
  }
  return segment == packet;
}

// Checks a whole batch: every packet in exactly one train and unchanged, every write acceptable
// and cut into the packets it was made of. Null when all is well. `order` receives the packets'
// numbers in the order they are written.
inline const char* batch_objection(const Coalescer& coalescer, std::span<const Bytes> packets,
                                   std::span<const Ipv4Packet> views, std::vector<size_t>& order) {
  std::vector<bool> seen(packets.size());
  order.clear();
  for (size_t train = 0; train < coalescer.size(); ++train) {
    const size_t count = coalescer.packets(train);
    if (count == 0 || count > kTrainPacketsMax) return "packets of a train";
    // Exact heap arrays, so that AddressSanitizer sees a write past the room asked for.
    std::vector<Piece> pieces(count + 1);
    std::vector<Piece> parts(count);
    const auto header = std::make_unique<TunHeader>();
    if (coalescer.gather(train, *header, pieces) != count + 1) return "pieces";
    if (coalescer.originals(train, parts) != count) return "originals";
    const TunWrite write = tun_write(pieces);
    if (const char* objection = kernel_objection(write)) return objection;
    const std::vector<Bytes> segments = cut(write);
    if (segments.size() != count) return "segments";
    size_t bytes = 0;
    std::vector<size_t> members;
    for (size_t i = 0; i < count; ++i) {
      size_t number = 0;
      while (number < views.size() && views[number].bytes().data() != parts[i].base) ++number;
      if (number == views.size() || seen[number]) return "a packet twice or from nowhere";
      if (!members.empty() && members.back() >= number) return "order within a train";
      seen[number] = true;
      if (piece_bytes(parts[i]) != packets[number]) return "an original changed";
      members.push_back(number);
      order.push_back(number);
      bytes += parts[i].length;
    }
    if (bytes != coalescer.bytes(train)) return "bytes of a train";
    const Bytes& first = packets[members[0]];
    const bool fixed_id =
        count > 1 && (first[6] & 0x40) != 0 && word_at(first, 4) == word_at(packets[members[1]], 4);
    for (size_t i = 0; i < count; ++i)
      if (!same_packet(segments[i], packets[members[i]], fixed_id)) return "a segment differs";
  }
  if (order.size() != packets.size()) return "a packet lost";

  // Order: what shares a flow, or may (fragments), is written as it came.
  const auto whole = [](const Bytes& p) { return (word_at(p, 6) & 0x3fff) == 0; };
  const auto port_pair = [](const Bytes& p) -> std::optional<uint32_t> {
    const size_t header = size_t{p[0] & 15U} * 4;
    if ((p[9] != 6 && p[9] != 17) || p.size() < header + 4) return std::nullopt;
    return long_at(p, header);
  };
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t j = i + 1; j < order.size(); ++j) {
      if (order[i] < order[j]) continue;
      const Bytes& late = packets[order[j]];
      const Bytes& early = packets[order[i]];
      if (long_at(late, 12) != long_at(early, 12) || long_at(late, 16) != long_at(early, 16))
        continue;
      if (!whole(late) || !whole(early)) return "a fragment overtook or was overtaken";
      if (late[9] != early[9]) continue;
      const auto a = port_pair(late);
      const auto b = port_pair(early);
      if (!a || !b || *a == *b) return "order within a flow";
    }
  }
  return nullptr;
}

}  // namespace flannelette::test
