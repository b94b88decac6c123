// Fuzz target: any virtio header before any bytes. What is segmented must stay within its bytes,
// parse packet by packet with right checksums, and add up to the original; a checksum completed in
// place must change nothing but its field.
#include "core/segment.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "../native/packets.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// The transport checksum of a packet verifies: pseudo header and all, written out.
bool transport_verifies(std::span<const uint8_t> packet) {
  const size_t header = size_t{packet[0] & 15U} * 4;
  Bytes summed(packet.begin() + 12, packet.begin() + 20);
  summed.resize(12);
  summed[9] = packet[9];
  put_word(summed, 10, static_cast<uint32_t>(packet.size() - header));
  summed.insert(summed.end(), packet.begin() + static_cast<ptrdiff_t>(header), packet.end());
  return naive_checksum(summed) == 0;
}

void check_plan(const SegmentPlan& plan, const Ipv4Packet& packet) {
  const std::span<const uint8_t> original = packet.bytes();
  const size_t ip = packet.header_length();
  const bool tcp = packet.protocol() == 6;
  const size_t headers = ip + (tcp ? size_t{original[ip + 12]} / 16 * 4 : 8);
  require(plan.count() > 0 && headers <= original.size());
  require(plan.length() >= headers && plan.length() <= original.size());
  require(plan.last_length() >= headers && plan.last_length() <= plan.length());
  require(plan.bytes() == (plan.count() - 1) * plan.length() + plan.last_length());
  require(plan.bytes() == original.size() + (plan.count() - 1) * headers);

  const std::unique_ptr<uint8_t[]> out(new uint8_t[plan.bytes()]);
  const std::span<uint8_t> written(out.get(), plan.bytes());
  plan.write(written);
  size_t at = 0;
  size_t payload = headers;
  for (size_t i = 0; i < plan.count(); ++i) {
    Ipv4Packet segment;
    require(Ipv4Packet::parse(written.subspan(at), segment) == PacketFault::kNone);
    const std::span<const uint8_t> bytes = segment.bytes();
    require(bytes.size() == (i + 1 == plan.count() ? plan.last_length() : plan.length()));
    require(transport_verifies(bytes));
    require(word_at(bytes, 4) == static_cast<uint16_t>(word_at(original, 4) + i));
    if (tcp)
      require(long_at(bytes, ip + 4) ==
              long_at(original, ip + 4) + static_cast<uint32_t>(payload - headers));
    else
      require(word_at(bytes, ip + 4) == bytes.size() - ip && word_at(bytes, ip + 6) != 0);
    require(std::equal(bytes.begin() + static_cast<ptrdiff_t>(headers), bytes.end(),
                       original.begin() + static_cast<ptrdiff_t>(payload)));
    payload += bytes.size() - headers;
    at += bytes.size();
  }
  require(at == plan.bytes() && payload == original.size());

  const size_t part = plan.count() / 2;
  const size_t size = plan.bytes(part, plan.count() - part);
  const std::unique_ptr<uint8_t[]> rest(new uint8_t[size]);
  plan.write(part, plan.count() - part, {rest.get(), size});
  require(std::memcmp(rest.get(), out.get() + plan.bytes() - size, size) == 0);
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kControl = 1 + sizeof(VirtioNetHeader);
  if (size < kControl) return 0;
  const uint8_t help = data[0];
  VirtioNetHeader header;
  std::memcpy(&header, data + 1, sizeof(header));
  // An exact copy, so that a read past the bytes is seen.
  const size_t length = size - kControl;
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[length]);
  if (length != 0) std::memcpy(copy.get(), data + kControl, length);
  const std::span<uint8_t> bytes(copy.get(), length);
  // Help over what random bytes seldom get right: a valid IP header, then a fitting offload.
  if ((help & 1) != 0 && length >= 20 && length <= ip::kPacketMax) {
    bytes[0] = static_cast<uint8_t>(0x40 | (bytes[0] & 15));
    put_word(bytes, 2, static_cast<uint32_t>(length));
    if ((help & 2) != 0) bytes[6] &= 0x40, bytes[7] = 0;
    if ((help & 4) != 0) bytes[9] = (help & 8) != 0 ? 6 : 17;
    if ((bytes[0] & 15U) >= 5 && size_t{bytes[0] & 15U} * 4 <= length) fix_checksum(bytes);
    if ((help & 16) != 0) header.gso_type = bytes[9] == 6 ? kGsoTcp4 : kGsoUdpL4;
    if ((help & 32) != 0) header.flags = 0;
    if ((help & 64) != 0) {
      header.checksum_start = static_cast<uint16_t>((bytes[0] & 15) * 4);
      header.checksum_offset = bytes[9] == 6 ? 16 : 6;
    }
  }

  Ipv4Packet packet;
  if (Ipv4Packet::parse(bytes, packet) != PacketFault::kNone) return 0;
  const Bytes before(bytes.begin(), bytes.end());
  SegmentPlan plan;
  if (SegmentPlan::make(header, packet, plan) == SegmentFault::kNone) check_plan(plan, packet);
  require(std::equal(before.begin(), before.end(), bytes.begin()));

  if (complete_checksum(header, packet) == SegmentFault::kNone &&
      (header.flags & kNeedsChecksum) != 0) {
    const size_t field = size_t{header.checksum_start} + header.checksum_offset;
    require(field >= packet.header_length() && field + 2 <= packet.bytes().size());
    for (size_t i = 0; i < bytes.size(); ++i)
      require(i == field || i == field + 1 || bytes[i] == before[i]);
    require(word_at(bytes, field) != 0);
  } else {
    require(std::equal(before.begin(), before.end(), bytes.begin()));
  }
  return 0;
}
