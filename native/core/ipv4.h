// IPv4 headers (RFC 791) through a bounds-checked view.
//
// `Ipv4Packet::parse` is the only way to get a view; a view that exists has a version of 4, a
// header that fits, and a total length within the bytes received. Everything else is a PacketFault.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/headers.h"

namespace flannelette {

// Why bytes are not an IPv4 packet we carry. `kNone` means they are.
enum class PacketFault : uint8_t {
  kNone,
  kShort,        // fewer than 20 bytes
  kBadVersion,   // not version 4 (IPv6, garbage)
  kBadHeader,    // IHL below 5, or a header longer than the bytes received
  kBadLength,    // total length below the header's or above the bytes received
  kBadChecksum,  // header checksum wrong
};

class Ipv4Packet {
 public:
  // A view of `bytes`, valid while they are. On a fault the view must not be used.
  // Bytes after the total length are link padding and not part of the packet.
  static PacketFault parse(std::span<uint8_t> bytes, Ipv4Packet& out);

  // A view of bytes that are exactly a packet which was parsed before.
  static Ipv4Packet parsed(std::span<uint8_t> bytes) {
    Ipv4Packet out;
    out.bytes_ = bytes;
    return out;
  }

  size_t header_length() const { return size_t{bytes_[0] & 0x0fU} * 4; }
  // All bytes of the packet: header and payload, exactly total length.
  std::span<uint8_t> bytes() const { return bytes_; }
  std::span<uint8_t> payload() const { return bytes_.subspan(header_length()); }

  uint8_t ttl() const { return bytes_[ip::kTtl]; }
  uint8_t protocol() const { return bytes_[ip::kProtocol]; }
  uint32_t source() const;       // host order
  uint32_t destination() const;  // host order
  // Offset of this fragment in bytes; 0 for a whole packet or a first fragment.
  size_t fragment_offset() const;

  // TTL less one and the checksum updated incrementally. Requires ttl() > 0.
  void decrement_ttl();

 private:
  std::span<uint8_t> bytes_;
};

inline bool is_multicast(uint32_t address) { return (address >> 28) == 0xe; }
inline bool is_loopback(uint32_t address) { return (address >> 24) == 127; }

// The mask of a prefix length of 0 to 32.
inline uint32_t prefix_mask(uint32_t prefix) {
  return prefix == 0 ? 0 : ~uint32_t{0} << (32 - prefix);
}

// A subnet: `network` has no bits outside `prefix`.
struct Subnet {
  uint32_t network = 0;
  uint32_t prefix = 32;

  bool contains(uint32_t address) const { return (address & prefix_mask(prefix)) == network; }
  uint32_t broadcast() const { return network | ~prefix_mask(prefix); }
};

}  // namespace flannelette
