// Random packets as a TUN with TSO and USO hands them over, for the property tests of segmentation.
#pragma once

#include <algorithm>
#include <random>

#include "core/virtio_net.h"
#include "packets.h"

namespace flannelette::test {

struct OffloadPacket {
  VirtioNetHeader offload;
  Bytes bytes;
};

struct OffloadRange {
  uint32_t source = kContainer1;
  uint32_t destination = kContainer2;
  size_t ip_options_max = 40;  // bytes
  size_t segments_max = 128;   // UDP_MAX_SEGMENTS of Linux 6.9
  // Of TCP packets that say nothing about their checksum, whose field holds anything; percent.
  size_t without_checksum = 0;
  bool plain_flags = false;  // of TCP: ACK, with ECE or PSH, and nothing in the reserved bits
};

// Sum of the pseudo-header, folded and not inverted, as CHECKSUM_PARTIAL wants it in the field.
inline uint16_t pseudo_sum(std::span<const uint8_t> packet) {
  const size_t header = size_t{packet[0] & 15U} * 4;
  Bytes pseudo(packet.begin() + 12, packet.begin() + 20);
  pseudo.resize(12);
  pseudo[9] = packet[9];
  put_word(pseudo, 10, static_cast<uint32_t>(packet.size() - header));
  return static_cast<uint16_t>(~naive_checksum(pseudo));
}

class RandomOffload {
 public:
  explicit RandomOffload(uint64_t seed) : random_(seed) {}

  // TCP or UDP with a payload longer than a segment; DF, ID, ToS, TTL (2 and more), IP options, TCP
  // options and flags, sequence and payload at random.
  OffloadPacket next(const OffloadRange& range) {
    tcp_ = chance(60);
    const size_t ip = 20 + 4 * (chance(25) ? below(range.ip_options_max / 4 + 1) : 0);
    const size_t transport = tcp_ ? 20 + 4 * (chance(50) ? 3 : below(11)) : 8;
    const size_t room = 65535 - ip - transport;
    const size_t size = segment_size(room - 1);
    const size_t most = std::min(room, size * range.segments_max);
    const size_t payload = std::min(most, size + 1 + below(chance(5) ? most : 12 * size));

    OffloadPacket out;
    out.bytes.resize(ip + transport + payload);
    for (uint8_t& byte : out.bytes) byte = static_cast<uint8_t>(random_());
    // Runs of zeros and ones, where checksums are 0 and 0xffff.
    if (chance(5)) {
      const auto fill = static_cast<uint8_t>(chance(50) ? 0 : 0xff);
      std::fill(out.bytes.begin() + static_cast<ptrdiff_t>(ip + transport), out.bytes.end(), fill);
    }
    write_ip(out.bytes, ip, range);
    write_transport(out.bytes, ip, transport, range);
    out.offload = {.flags = kNeedsChecksum,
                   .gso_type = tcp_ ? kGsoTcp4 : kGsoUdpL4,
                   .header_length = static_cast<uint16_t>(ip + transport),
                   .gso_size = static_cast<uint16_t>(size),
                   .checksum_start = static_cast<uint16_t>(ip),
                   .checksum_offset = static_cast<uint16_t>(tcp_ ? 16 : 6)};
    put_word(out.bytes, ip + out.offload.checksum_offset, pseudo_sum(out.bytes));
    // Linux refuses such a UDP packet (EINVAL, __virtio_net_hdr_to_skb).
    if (tcp_ && chance(range.without_checksum)) {
      out.offload.flags = 0;
      out.offload.checksum_start = out.offload.checksum_offset = 0;
      put_word(out.bytes, ip + 16, static_cast<uint32_t>(below(65536)));
    }
    // As the kernel's own TCP says it; the flag is what decides.
    if (tcp_ && (out.bytes[ip + 13] & 0x80) != 0 && chance(50)) out.offload.gso_type |= kGsoEcn;
    return out;
  }

 private:
  size_t below(size_t bound) { return static_cast<size_t>(random_() % bound); }
  bool chance(size_t percent) { return below(100) < percent; }

  // Most about an MTU's, some odd, some small.
  size_t segment_size(size_t most) {
    const size_t size = chance(60)   ? 1200 + below(300)
                        : chance(70) ? 48 + below(1400)
                                     : below(9000);
    return std::clamp<size_t>(size, 48, most);
  }

  void write_ip(Bytes& bytes, size_t length, const OffloadRange& range) {
    bytes[0] = static_cast<uint8_t>(0x40 | length / 4);
    put_word(bytes, 2, static_cast<uint32_t>(bytes.size()));
    put_word(bytes, 6, chance(50) ? 0x4000 : 0);
    if (bytes[8] < 2) bytes[8] = 64;
    bytes[9] = tcp_ ? 6 : 17;
    put_long(bytes, 12, range.source);
    put_long(bytes, 16, range.destination);
    for (size_t i = 20; i < length; ++i) bytes[i] = 1;
    // A security option (RFC 1108), whose contents nobody on the way looks at.
    if (length >= 20 + 12) {
      bytes[20] = 130;
      bytes[21] = 11;
      for (size_t i = 22; i < 31; ++i) bytes[i] = static_cast<uint8_t>(random_());
    }
    // The end of the list, and padding.
    if (length > 20 && chance(30)) bytes[length - 1] = 0;
    fix_checksum(bytes);
  }

  void write_transport(Bytes& bytes, size_t ip, size_t length, const OffloadRange& range) {
    if (!tcp_) {
      put_word(bytes, ip + 4, static_cast<uint32_t>(bytes.size() - ip));
      return;
    }
    const auto reserved = static_cast<uint8_t>(range.plain_flags ? 0 : bytes[ip + 12] & 15);
    bytes[ip + 12] = static_cast<uint8_t>(length / 4 << 4 | reserved);
    if (range.plain_flags) bytes[ip + 13] = static_cast<uint8_t>(0x10 | (bytes[ip + 13] & 0x48));
  }

  std::mt19937_64 random_;
  bool tcp_ = false;
};

}  // namespace flannelette::test
