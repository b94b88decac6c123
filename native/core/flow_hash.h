// A hash of a packet's flow: equal for all packets of a flow, spread over 32 bits.
#pragma once

#include <bit>
#include <cstdint>

#include "core/bytes.h"
#include "core/ipv4.h"

namespace flannelette {

// By source, destination and protocol, and by the ports of TCP and UDP. A fragment counts without
// ports, the first too, so that all fragments of a packet go one way.
inline uint32_t flow_hash(const Ipv4Packet& packet) {
  uint32_t ports = 0;
  const bool fragment = (load_be16(packet.bytes().data() + ip::kFragment) & ip::kFragmentBits) != 0;
  if (!fragment && (packet.protocol() == protocol::kTcp || packet.protocol() == protocol::kUdp) &&
      packet.payload().size() >= 4)
    ports = load_be32(packet.payload().data());
  // Odd multipliers keep every bit of each field; the end is MurmurHash3's finalizer.
  uint32_t hash = packet.source() * 0x9e3779b1U;
  hash = std::rotl(hash, 13) ^ packet.destination() * 0x85ebca77U;
  hash = std::rotl(hash, 13) ^ ports * 0xc2b2ae3dU;
  hash ^= packet.protocol();
  hash = (hash ^ hash >> 16) * 0x85ebca6bU;
  hash = (hash ^ hash >> 13) * 0xc2b2ae35U;
  return hash ^ hash >> 16;
}

}  // namespace flannelette
