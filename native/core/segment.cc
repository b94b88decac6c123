#include "core/segment.h"

#include <cstring>

#include "core/bytes.h"
#include "core/checksum.h"
#include "core/headers.h"

namespace flannelette {

namespace {

constexpr uint8_t kFinPsh = tcp::kFinBit | tcp::kPushBit;

// The transport header of a packet that the offload fits, 0 when it does not.
size_t transport_header(uint8_t gso_type, const Ipv4Packet& packet) {
  const std::span<const uint8_t> payload = packet.payload();
  if (gso_type == kGsoUdpL4) {
    return packet.protocol() == protocol::kUdp && payload.size() >= udp::kHeader ? udp::kHeader : 0;
  }
  if (gso_type != kGsoTcp4 && gso_type != (kGsoTcp4 | kGsoEcn)) return 0;
  if (packet.protocol() != protocol::kTcp || payload.size() < tcp::kHeaderMin) return 0;
  const size_t header = size_t{payload[tcp::kDataOffset]} / 16 * 4;
  return header >= tcp::kHeaderMin && header <= payload.size() ? header : 0;
}

size_t checksum_field(uint8_t protocol) {
  return protocol == protocol::kTcp ? tcp::kChecksum : udp::kChecksum;
}

uint16_t checksum_of_sum(uint16_t sum) { return static_cast<uint16_t>(~sum); }

// UDP's 0 says that there is no checksum; 0xffff is the same number.
uint16_t never_zero(uint16_t checksum) { return checksum == 0 ? uint16_t{0xffff} : checksum; }

}  // namespace

SegmentFault SegmentPlan::make(const VirtioNetHeader& header, const Ipv4Packet& packet,
                               SegmentPlan& out) {
  if (header.gso_size == 0) return SegmentFault::kBadOffload;
  if ((load_be16(&packet.bytes()[ip::kFragment]) & ip::kFragmentBits) != 0)
    return SegmentFault::kBadOffload;
  const size_t transport = transport_header(header.gso_type, packet);
  if (transport == 0) return SegmentFault::kBadOffload;
  if ((header.flags & kNeedsChecksum) != 0 &&
      (header.checksum_start != packet.header_length() ||
       header.checksum_offset != checksum_field(packet.protocol())))
    return SegmentFault::kBadOffload;

  const size_t payload = packet.payload().size() - transport;
  out.packet_ = packet;
  out.headers_ = packet.header_length() + transport;
  out.gso_size_ = header.gso_size;
  out.count_ = payload == 0 ? 1 : (payload - 1) / out.gso_size_ + 1;
  out.last_length_ = out.headers_ + payload - (out.count_ - 1) * out.gso_size_;
  return SegmentFault::kNone;
}

size_t SegmentPlan::bytes(size_t first, size_t count) const {
  if (count == 0) return 0;
  return (count - 1) * length() + (first + count == count_ ? last_length_ : length());
}

void SegmentPlan::write(size_t first, size_t count, std::span<uint8_t> out) const {
  const std::span<const uint8_t> packet = packet_.bytes();
  const size_t ip_header = packet_.header_length();
  const uint8_t protocol = packet_.protocol();
  const size_t checksum_at = ip_header + checksum_field(protocol);
  const uint16_t id = load_be16(&packet[ip::kId]);
  const uint32_t sequence =
      protocol == protocol::kTcp ? load_be32(&packet[ip_header + tcp::kSequence]) : 0;

  uint8_t* to = out.data();
  for (size_t i = first; i < first + count; ++i) {
    const bool last = i + 1 == count_;
    const size_t length = last ? last_length_ : headers_ + gso_size_;
    const size_t done = i * gso_size_;  // payload bytes in the packets before

    std::memcpy(to, packet.data(), headers_);
    store_be16(to + ip::kTotalLength, static_cast<uint16_t>(length));
    store_be16(to + ip::kId, static_cast<uint16_t>(id + i));
    store_be16(to + ip::kChecksum, 0);
    store_be16(to + ip::kChecksum, internet_checksum({to, ip_header}));

    const auto transport_length = static_cast<uint16_t>(length - ip_header);
    if (protocol == protocol::kTcp) {
      store_be32(to + ip_header + tcp::kSequence, sequence + static_cast<uint32_t>(done));
      uint8_t& flags = to[ip_header + tcp::kFlags];
      if (!last) flags = static_cast<uint8_t>(flags & ~kFinPsh);
      if (i != 0) flags = static_cast<uint8_t>(flags & ~tcp::kCwrBit);
    } else {
      store_be16(to + ip_header + udp::kLength, transport_length);
    }
    store_be16(to + checksum_at, 0);
    // Headers have an even length, so that the payload's sum may follow theirs.
    uint16_t sum = ones_complement_sum(
        {to + ip_header, headers_ - ip_header},
        pseudo_header_sum(packet_.source(), packet_.destination(), protocol, transport_length));
    sum = copy_and_sum(packet.subspan(headers_ + done, length - headers_), to + headers_, sum);
    const uint16_t checksum = checksum_of_sum(sum);
    store_be16(to + checksum_at, protocol == protocol::kTcp ? checksum : never_zero(checksum));
    to += length;
  }
}

SegmentFault complete_checksum(const VirtioNetHeader& header, const Ipv4Packet& packet) {
  if ((header.flags & kNeedsChecksum) == 0) return SegmentFault::kNone;
  const std::span<uint8_t> bytes = packet.bytes();
  const size_t start = header.checksum_start;
  const size_t field = start + header.checksum_offset;
  if (start < packet.header_length() || field + 2 > bytes.size()) return SegmentFault::kBadOffload;
  store_be16(&bytes[field], never_zero(internet_checksum(bytes.subspan(start))));
  return SegmentFault::kNone;
}

}  // namespace flannelette
