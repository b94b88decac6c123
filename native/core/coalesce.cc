#include "core/coalesce.h"

#include <algorithm>
#include <cstring>

#include "core/bytes.h"
#include "core/checksum.h"
#include "core/headers.h"

namespace flannelette {

namespace {

// Offsets in packets without IP options.
constexpr size_t kAddresses = ip::kSource;
constexpr size_t kTransport = ip::kHeaderMin;
constexpr size_t kTcpSequence = kTransport + tcp::kSequence;
constexpr size_t kTcpAck = kTransport + tcp::kAck;
constexpr size_t kTcpWord = kTransport + tcp::kDataOffset;  // header length, flags, window
constexpr size_t kTcpFlags = kTransport + tcp::kFlags;
constexpr size_t kTcpChecksum = kTransport + tcp::kChecksum;
constexpr size_t kTcpUrgent = kTransport + tcp::kUrgent;
constexpr size_t kTcpOptions = kTransport + tcp::kOptions;
constexpr size_t kUdpLength = kTransport + udp::kLength;
constexpr size_t kUdpChecksum = kTransport + udp::kChecksum;
constexpr size_t kUdpPayload = kTransport + udp::kHeader;

constexpr uint32_t kPushInWord = uint32_t{tcp::kPushBit} << 16;

constexpr size_t kUdpSegmentsMax = 64;

// For a whole packet without IP options. The addresses, part of the pseudo-header, stand right in
// front of the transport header.
bool transport_checksum_right(const uint8_t* bytes, size_t length) {
  const auto initial = static_cast<uint32_t>(length - kTransport + bytes[ip::kProtocol]);
  return ones_complement_sum({bytes + kAddresses, length - kAddresses}, initial) == 0xffff;
}

bool equal(const uint8_t* a, const uint8_t* b, size_t offset, size_t length) {
  return std::memcmp(a + offset, b + offset, length) == 0;
}

// Whether headers of one flow are equal in all that the segments of a large packet share.
bool headers_match(const uint8_t* a, const uint8_t* b, size_t header) {
  // Version, header length and ToS; then fragment flags, TTL and protocol.
  if (!equal(a, b, 0, 2) || !equal(a, b, ip::kFragment, 4)) return false;
  if (a[ip::kProtocol] == protocol::kUdp) return true;
  const uint32_t difference = load_be32(a + kTcpWord) ^ load_be32(b + kTcpWord);
  return (difference & ~kPushInWord) == 0 && equal(a, b, kTcpAck, 4) &&
         equal(a, b, kTcpUrgent, 2) && equal(a, b, kTcpOptions, header - kTcpOptions);
}

}  // namespace

Coalescer::Coalescer(CoalesceOptions options, size_t capacity)
    : options_(options),
      capacity_(static_cast<uint32_t>(capacity)),
      packets_(new Packet[capacity]),
      trains_(new Train[capacity]) {}

bool Coalescer::add(const Ipv4Packet& packet) {
  if (packet_count_ == capacity_) return false;
  const std::span<const uint8_t> bytes = packet.bytes();
  packets_[packet_count_++] = {bytes.data(), static_cast<uint32_t>(bytes.size()), 0};

  const uint64_t addresses =
      uint64_t{load_be32(&bytes[kAddresses])} << 32 | load_be32(&bytes[kAddresses + 4]);
  const uint8_t protocol = packet.protocol();
  const bool fragment = (load_be16(&bytes[ip::kFragment]) & ip::kFragmentBits) != 0;
  const bool ported = protocol == protocol::kTcp || protocol == protocol::kUdp;
  if (fragment || (ported && packet.payload().size() < 4)) {
    // It may belong to any flow between the two.
    close_between(addresses);
    begin({});
    return true;
  }
  if (!ported) {
    begin({});
    return true;
  }

  const Flow flow{addresses, uint64_t{load_be32(packet.payload().data())} << 8 | protocol};
  const Segment segment = inspect(bytes);
  const size_t slot = find(flow);
  if (slot != used_) {
    recent_ = slot;
    Train& train = trains_[open_[slot]];
    if (join(train, segment)) {
      if (segment.push || segment.payload < train.segment) close(slot);
      return true;
    }
  }
  begin(segment);
  if (segment.header != 0 && !segment.push) {
    open(slot, flow);
  } else if (slot != used_) {
    close(slot);
  }
  return true;
}

Coalescer::Segment Coalescer::inspect(std::span<const uint8_t> bytes) const {
  // Fragments are not asked about; what is left beside DF is the reserved bit. A checksum of 0xffff
  // means the same as 0 (but for UDP), yet Linux would not write it again.
  if (bytes[0] != 0x45 || (load_be16(&bytes[ip::kFragment]) & ~ip::kDontFragment) != 0 ||
      load_be16(&bytes[ip::kChecksum]) == 0xffff)
    return {};
  if (bytes[ip::kProtocol] == protocol::kUdp) {
    if (!options_.udp || bytes.size() <= kUdpPayload ||
        load_be16(&bytes[kUdpLength]) != bytes.size() - kTransport ||
        load_be16(&bytes[kUdpChecksum]) == 0)
      return {};
    return {kUdpPayload, static_cast<uint16_t>(bytes.size() - kUdpPayload), false};
  }
  if (!options_.tcp || bytes.size() < kTcpOptions) return {};
  const size_t header = kTransport + size_t{bytes[kTcpWord]} / 16 * 4;
  const uint8_t flags = bytes[kTcpFlags];
  if (header < kTcpOptions || header >= bytes.size() || (bytes[kTcpWord] & 0x0f) != 0 ||
      (flags & ~(tcp::kPushBit | tcp::kEceBit)) != tcp::kAckBit ||
      load_be16(&bytes[kTcpChecksum]) == 0xffff)
    return {};
  return {static_cast<uint16_t>(header), static_cast<uint16_t>(bytes.size() - header),
          (flags & tcp::kPushBit) != 0};
}

void Coalescer::begin(const Segment& segment) {
  const uint32_t index = packet_count_ - 1;
  const Packet& packet = packets_[index];
  Train& train = trains_[train_count_++];
  train = {};
  train.first = train.last = index;
  train.length = packet.length;
  train.packets = 1;
  train.header = segment.header;
  train.segment = segment.payload;
  if (segment.header != 0 && packet.bytes[ip::kProtocol] == protocol::kTcp)
    train.next_sequence = load_be32(packet.bytes + kTcpSequence) + segment.payload;
}

bool Coalescer::join(Train& train, const Segment& segment) {
  const uint32_t index = packet_count_ - 1;
  const Packet& packet = packets_[index];
  const Packet& first = packets_[train.first];
  const bool tcp = first.bytes[ip::kProtocol] == protocol::kTcp;
  if (segment.header != train.header || segment.payload > train.segment ||
      train.length + segment.payload > ip::kPacketMax ||
      train.packets == (tcp ? kTrainPacketsMax : kUdpSegmentsMax) ||
      !headers_match(first.bytes, packet.bytes, train.header))
    return false;
  if (tcp && load_be32(packet.bytes + kTcpSequence) != train.next_sequence) return false;

  const auto id_distance =
      static_cast<uint16_t>(load_be16(packet.bytes + ip::kId) - load_be16(first.bytes + ip::kId));
  uint16_t id_step = train.id_step;
  if (train.packets == 1) {
    const bool fixed_allowed = (load_be16(first.bytes + ip::kFragment) & ip::kDontFragment) != 0;
    if (id_distance > 1 || (id_distance == 0 && !fixed_allowed)) return false;
    id_step = id_distance;
  }
  if (id_distance != id_step * train.packets) return false;

  if (!train.verified && !transport_checksum_right(first.bytes, first.length)) return false;
  train.verified = true;
  if (!transport_checksum_right(packet.bytes, packet.length)) return false;

  packets_[train.last].next = index;
  train.last = index;
  train.length += segment.payload;
  train.next_sequence += segment.payload;
  train.id_step = id_step;
  ++train.packets;
  return true;
}

size_t Coalescer::find(const Flow& flow) const {
  // Packets of a flow come in bursts.
  if (recent_ < used_ && flows_[recent_] == flow) return recent_;
  size_t slot = 0;
  while (slot != used_ && flows_[slot] != flow) ++slot;
  return slot;
}

void Coalescer::open(size_t slot, const Flow& flow) {
  if (slot == kSlots) {
    slot = static_cast<size_t>(std::min_element(open_.begin(), open_.end()) - open_.begin());
  } else if (slot == used_) {
    ++used_;
  }
  flows_[slot] = flow;
  open_[slot] = train_count_ - 1;
  recent_ = slot;
}

void Coalescer::close(size_t slot) {
  --used_;
  flows_[slot] = flows_[used_];
  open_[slot] = open_[used_];
}

void Coalescer::close_between(uint64_t addresses) {
  for (size_t slot = used_; slot-- > 0;)
    if (flows_[slot].addresses == addresses) close(slot);
}

size_t Coalescer::gather(size_t train, TunHeader& header, std::span<Piece> out) const {
  const Train& t = trains_[train];
  const Packet& first = packets_[t.first];
  header.offload = {};
  if (t.packets == 1) {
    out[0] = {&header, sizeof(VirtioNetHeader)};
    out[1] = {first.bytes, first.length};
    return 2;
  }

  // What Linux checks (__virtio_net_hdr_to_skb, as of 6.11): the headers lie within the packet,
  // checksum_offset is that of the protocol, and of UDP no more than UDP_MAX_SEGMENTS segments.
  // Segmentation checks that checksum_start is the transport header.
  uint8_t* bytes = header.packet.data();
  std::memcpy(bytes, first.bytes, t.header);
  const bool tcp = bytes[ip::kProtocol] == protocol::kTcp;
  const size_t checksum = tcp ? kTcpChecksum : kUdpChecksum;
  header.offload.flags = kNeedsChecksum;
  header.offload.gso_type = tcp ? kGsoTcp4 : kGsoUdpL4;
  header.offload.header_length = t.header;
  header.offload.gso_size = t.segment;
  header.offload.checksum_start = kTransport;
  header.offload.checksum_offset = static_cast<uint16_t>(checksum - kTransport);

  const uint32_t transport = t.length - kTransport;
  store_be16(bytes + ip::kTotalLength, static_cast<uint16_t>(t.length));
  store_be16(bytes + ip::kChecksum, 0);
  store_be16(bytes + ip::kChecksum, internet_checksum({bytes, kTransport}));
  if (tcp) {
    bytes[kTcpFlags] |= packets_[t.last].bytes[kTcpFlags] & tcp::kPushBit;
  } else {
    store_be16(bytes + kUdpLength, static_cast<uint16_t>(transport));
  }
  // Sum of the pseudo-header alone, not inverted: completing the checksum adds the rest.
  store_be16(bytes + checksum,
             ones_complement_sum({bytes + kAddresses, 8}, transport + bytes[ip::kProtocol]));

  out[0] = {&header, sizeof(VirtioNetHeader) + t.header};
  uint32_t index = t.first;
  for (size_t i = 1; i <= t.packets; ++i) {
    const Packet& packet = packets_[index];
    out[i] = {packet.bytes + t.header, packet.length - t.header};
    index = packet.next;
  }
  return t.packets + size_t{1};
}

size_t Coalescer::originals(size_t train, std::span<Piece> out) const {
  const Train& t = trains_[train];
  uint32_t index = t.first;
  for (size_t i = 0; i < t.packets; ++i) {
    out[i] = {packets_[index].bytes, packets_[index].length};
    index = packets_[index].next;
  }
  return t.packets;
}

void Coalescer::clear() {
  packet_count_ = train_count_ = 0;
  used_ = 0;
}

}  // namespace flannelette
