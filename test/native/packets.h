// Packets and reference models for the tests: everything here is written the slow, obvious way and
// shares no code with what it checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/forwarding_table.h"
#include "core/ipv4.h"
#include "core/virtio_net.h"

namespace flannelette::test {

using Bytes = std::vector<uint8_t>;

constexpr uint32_t ip(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return a << 24 | b << 16 | c << 8 | d;
}

// The documents' example network, seen from node 1.
inline constexpr Subnet kOverlay{ip(100, 96, 0, 0), 16};
inline constexpr Subnet kOwn{ip(100, 96, 1, 0), 24};
inline constexpr uint32_t kTunAddress = ip(100, 96, 1, 0);
inline constexpr uint32_t kGateway1 = ip(100, 96, 1, 1);
inline constexpr uint32_t kContainer1 = ip(100, 96, 1, 2);
inline constexpr uint32_t kNode1 = ip(10, 168, 0, 2);
inline constexpr uint32_t kContainer2 = ip(100, 96, 2, 3);
inline constexpr uint32_t kNode2 = ip(10, 168, 0, 3);
inline constexpr uint32_t kContainer3 = ip(100, 96, 3, 4);
inline constexpr uint32_t kNode3 = ip(10, 168, 0, 4);
inline constexpr uint32_t kStranger = ip(10, 168, 0, 99);

inline std::vector<Route> example_routes() {
  return {{{ip(100, 96, 2, 0), 24}, kNode2}, {{ip(100, 96, 3, 0), 24}, kNode3}};
}

// RFC 1071 without any of its tricks: 64-bit sum, carries folded at the end.
inline uint16_t naive_checksum(std::span<const uint8_t> bytes) {
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes.size(); ++i)
    sum += i % 2 == 0 ? uint64_t{bytes[i]} * 256 : uint64_t{bytes[i]};
  while (sum > 0xffff) sum = sum % 65536 + sum / 65536;
  return static_cast<uint16_t>(0xffff - sum);
}

inline uint16_t word_at(std::span<const uint8_t> bytes, size_t at) {
  return static_cast<uint16_t>(bytes[at] * 256 + bytes[at + 1]);
}

inline uint32_t long_at(std::span<const uint8_t> bytes, size_t at) {
  return uint32_t{word_at(bytes, at)} * 65536 + word_at(bytes, at + 2);
}

inline void put_word(std::span<uint8_t> bytes, size_t at, uint32_t value) {
  bytes[at] = static_cast<uint8_t>(value >> 8);
  bytes[at + 1] = static_cast<uint8_t>(value);
}

inline void put_long(std::span<uint8_t> bytes, size_t at, uint32_t value) {
  put_word(bytes, at, value >> 16);
  put_word(bytes, at + 2, value & 0xffff);
}

// Makes the header checksum right for the IHL the header claims (which must lie within the bytes).
inline void fix_checksum(std::span<uint8_t> bytes) {
  put_word(bytes, 10, 0);
  put_word(bytes, 10, naive_checksum(bytes.first(size_t{bytes[0] & 15U} * 4)));
}

// One write to a TUN with virtio headers.
struct TunWrite {
  VirtioNetHeader offload;
  Bytes packet;
};

struct PacketSpec {
  uint32_t source = kContainer1;
  uint32_t destination = kContainer2;
  uint8_t ttl = 64;
  uint8_t protocol = 17;
  uint16_t id = 0;
  uint16_t fragment = 0;  // flags and offset in units of 8 bytes
  size_t options = 0;     // bytes, a multiple of 4
  Bytes payload = {};
};

inline Bytes make_packet(const PacketSpec& spec) {
  const size_t header = 20 + spec.options;
  Bytes out(header + spec.payload.size(), 0);
  out[0] = static_cast<uint8_t>(0x40 | header / 4);
  put_word(out, 2, static_cast<uint32_t>(out.size()));
  put_word(out, 4, spec.id);
  put_word(out, 6, spec.fragment);
  out[8] = spec.ttl;
  out[9] = spec.protocol;
  put_long(out, 12, spec.source);
  put_long(out, 16, spec.destination);
  for (size_t i = 20; i < header; ++i) out[i] = 1;  // no-operation options
  for (size_t i = 0; i < spec.payload.size(); ++i) out[header + i] = spec.payload[i];
  fix_checksum(out);
  return out;
}

// The checksum that belongs into the TCP or UDP header of a packet, from scratch.
inline uint16_t transport_checksum(Bytes packet) {
  const bool udp = packet[9] == 17;
  const size_t header = size_t{packet[0] & 15U} * 4;
  put_word(packet, header + (udp ? 6 : 16), 0);
  Bytes summed(packet.begin() + 12, packet.begin() + 20);
  summed.push_back(0);
  summed.push_back(packet[9]);
  summed.resize(12);
  put_word(summed, 10, static_cast<uint32_t>(packet.size() - header));
  summed.insert(summed.end(), packet.begin() + static_cast<ptrdiff_t>(header), packet.end());
  const uint16_t sum = naive_checksum(summed);
  return udp && sum == 0 ? 0xffff : sum;
}

inline void fix_transport_checksum(Bytes& packet) {
  const size_t header = size_t{packet[0] & 15U} * 4;
  put_word(packet, header + (packet[9] == 17 ? 6 : 16), transport_checksum(packet));
}

// A packet that carries its number, `size` bytes long (at least 24).
inline Bytes numbered_packet(uint32_t number, size_t size = 64, PacketSpec spec = {}) {
  spec.payload.assign(size - 20, static_cast<uint8_t>(number * 7 + 1));
  put_long(spec.payload, 0, number);
  Bytes packet = make_packet(spec);
  // Right, so that it is not taken for one that its sender left to a device.
  if (spec.protocol == 17 && spec.fragment == 0 && spec.options == 0 && size >= 28)
    fix_transport_checksum(packet);
  return packet;
}

// A TCP packet from container 1 to container 2 whose payload bytes count up; only ACK is set. The
// checksum is right.
struct TcpSpec {
  size_t payload = 100;
  uint32_t sequence = 1000;
  uint16_t id = 1;
  uint8_t flags = 0x10;
  uint16_t source_port = 40000;
  uint32_t source = kContainer1;
  uint32_t destination = kContainer2;
};

inline Bytes tcp_packet(const TcpSpec& tcp) {
  PacketSpec spec{.source = tcp.source,
                  .destination = tcp.destination,
                  .protocol = 6,
                  .id = tcp.id,
                  .fragment = 0x4000};
  spec.payload.resize(20 + tcp.payload);
  put_word(spec.payload, 0, tcp.source_port);
  put_word(spec.payload, 2, 5201);
  put_long(spec.payload, 4, tcp.sequence);
  spec.payload[12] = 5 << 4;
  spec.payload[13] = tcp.flags;
  put_word(spec.payload, 14, 501);
  for (size_t i = 0; i < tcp.payload; ++i)
    spec.payload[20 + i] = static_cast<uint8_t>(tcp.sequence + i);
  Bytes packet = make_packet(spec);
  fix_transport_checksum(packet);
  return packet;
}

inline uint32_t packet_number(std::span<const uint8_t> bytes) { return long_at(bytes, 20); }

// What one hop of the tunnel makes of a packet.
inline Bytes one_hop_later(Bytes bytes) {
  bytes[8] = static_cast<uint8_t>(bytes[8] - 1);
  fix_checksum(bytes);
  return bytes;
}

// Longest prefix match by looking at every route; of equal ones the last wins.
class NaiveTable {
 public:
  explicit NaiveTable(std::vector<Route> routes) : routes_(std::move(routes)) {}

  uint32_t lookup(uint32_t address) const {
    const Route* best = nullptr;
    for (const Route& route : routes_) {
      const uint64_t size = uint64_t{1} << (32 - route.subnet.prefix);
      const uint64_t first = route.subnet.network;
      if (address < first || address >= first + size) continue;
      if (best == nullptr || route.subnet.prefix >= best->subnet.prefix) best = &route;
    }
    return best == nullptr ? 0 : best->next_hop;
  }

  bool has_next_hop(uint32_t next_hop) const {
    for (const Route& route : routes_)
      if (route.next_hop == next_hop) return true;
    return false;
  }

  const std::vector<Route>& routes() const { return routes_; }

 private:
  std::vector<Route> routes_;
};

}  // namespace flannelette::test
