// Fuzz target: any bytes as a packet. Whatever parses must lie within its bytes, survive a hop with
// a right checksum, and be answered with a right ICMP error.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "../native/packets.h"
#include "core/checksum.h"
#include "core/icmp.h"
#include "core/ipv4.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool fix = (data[0] & 1) != 0;  // most random headers have a wrong checksum
  // An exact copy, so that a read past the bytes is seen.
  const size_t length = size - 1;
  const std::unique_ptr<uint8_t[]> copy(new uint8_t[length]);
  if (length != 0) std::memcpy(copy.get(), data + 1, length);
  const std::span<uint8_t> bytes(copy.get(), length);
  if (fix && length >= 20 && size_t{bytes[0] & 15U} * 4 <= length && (bytes[0] & 15U) >= 5)
    fix_checksum(bytes);

  Ipv4Packet packet;
  if (Ipv4Packet::parse(bytes, packet) != PacketFault::kNone) return 0;
  require(length >= 20 && bytes[0] >> 4 == 4);
  require(packet.header_length() >= 20 && packet.header_length() <= packet.bytes().size());
  require(packet.bytes().size() == word_at(bytes, 2) && packet.bytes().size() <= length);
  require(packet.bytes().data() == bytes.data());
  require(packet.payload().size() == packet.bytes().size() - packet.header_length());
  require(naive_checksum(bytes.first(packet.header_length())) == 0);
  require(packet.fragment_offset() <= 0x1fff * 8);

  const bool answered = may_send_icmp_error(packet, kOverlay);
  for (const IcmpError error : {IcmpError::kNetUnreachable, IcmpError::kTimeExceeded}) {
    IcmpBuffer buffer;
    const size_t total = build_icmp_error(error, packet, kTunAddress, buffer);
    require(total <= kIcmpErrorMax && total <= packet.bytes().size() + 28);
    Ipv4Packet reply;
    require(Ipv4Packet::parse({buffer.data(), total}, reply) == PacketFault::kNone);
    require(reply.destination() == packet.source() && naive_checksum(reply.payload()) == 0);
    require(std::memcmp(reply.payload().data() + 8, bytes.data(), total - 28) == 0);
    require(!may_send_icmp_error(reply, kOverlay));
  }
  if (answered) require(packet.fragment_offset() == 0 && !is_multicast(packet.source()));

  if (packet.ttl() > 0) {
    const Bytes expected = one_hop_later(Bytes(packet.bytes().begin(), packet.bytes().end()));
    packet.decrement_ttl();
    // 0xffff as checksum is read like 0x0000 (RFC 1624), so only its validity is sure to be equal.
    require(naive_checksum(packet.bytes().first(packet.header_length())) == 0);
    require(packet.ttl() == expected[8]);
    Ipv4Packet again;
    require(Ipv4Packet::parse(bytes, again) == PacketFault::kNone);
  }
  return 0;
}
