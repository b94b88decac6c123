// Where the fields of IPv4, TCP, UDP and ICMP headers are, in bytes from the start of each, and
// what their bits mean. Numbers in headers are big-endian.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flannelette {

// RFC 791.
namespace ip {
inline constexpr size_t kHeaderMin = 20;
inline constexpr size_t kPacketMax = 65535;
inline constexpr size_t kTotalLength = 2;
inline constexpr size_t kId = 4;
inline constexpr size_t kFragment = 6;
inline constexpr size_t kTtl = 8;
inline constexpr size_t kProtocol = 9;
inline constexpr size_t kChecksum = 10;
inline constexpr size_t kSource = 12;
inline constexpr size_t kDestination = 16;
// Bits of the 16 at kFragment.
inline constexpr uint16_t kDontFragment = 0x4000;
inline constexpr uint16_t kFragmentOffset = 0x1fff;  // in units of 8 bytes
// More fragments, and the offset: neither is set in a whole packet.
inline constexpr uint16_t kFragmentBits = 0x3fff;
}  // namespace ip

// Assigned by IANA.
namespace protocol {
inline constexpr uint8_t kIcmp = 1;
inline constexpr uint8_t kTcp = 6;
inline constexpr uint8_t kUdp = 17;
}  // namespace protocol

// RFC 9293.
namespace tcp {
inline constexpr size_t kHeaderMin = 20;
inline constexpr size_t kSequence = 4;
inline constexpr size_t kAck = 8;
inline constexpr size_t kDataOffset = 12;  // with flags and window: a word of 32 bits
inline constexpr size_t kFlags = 13;
inline constexpr size_t kChecksum = 16;
inline constexpr size_t kUrgent = 18;
inline constexpr size_t kOptions = 20;
inline constexpr uint8_t kFinBit = 0x01;
inline constexpr uint8_t kPushBit = 0x08;
inline constexpr uint8_t kAckBit = 0x10;
inline constexpr uint8_t kEceBit = 0x40;  // RFC 3168
inline constexpr uint8_t kCwrBit = 0x80;
}  // namespace tcp

// RFC 768.
namespace udp {
inline constexpr size_t kHeader = 8;
inline constexpr size_t kLength = 4;
inline constexpr size_t kChecksum = 6;
}  // namespace udp

// RFC 792.
namespace icmp {
inline constexpr size_t kHeader = 8;
inline constexpr size_t kChecksum = 2;
inline constexpr size_t kId = 4;          // of an echo
inline constexpr size_t kSequence = 6;    // of an echo
inline constexpr size_t kNextHopMtu = 6;  // RFC 1191
inline constexpr uint8_t kEchoReply = 0;
inline constexpr uint8_t kEcho = 8;
inline constexpr uint8_t kFragNeededCode = 4;  // of kUnreachable
inline constexpr uint8_t kUnreachable = 3;
inline constexpr uint8_t kTimeExceeded = 11;
}  // namespace icmp

}  // namespace flannelette
