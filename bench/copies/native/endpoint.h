// The ends of the crossings: sockets and TUN devices in the namespaces of a lab that stands
// (bench/copies/main.ts sets it up).
//
//   container-1 [socket] -- docker0, host-1 -- flannel0, flannel1 [TUN]
//                                      eth0 [socket] -- switch -- eth0, host-2 [socket]
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/virtio_net.h"
#include "sys/owned_fd.h"
#include "sys/tun.h"

namespace flannelette::bench {

inline constexpr size_t kHeaders = 28;  // IPv4 without options, and UDP
inline constexpr size_t kOverlayMtu = 1472;

// Who takes care of the UDP checksum of what crosses.
enum class Checksum : uint8_t {
  kSoftware,  // the kernel computes and verifies it
  kNone,      // there is none: SO_NO_CHECK, or 0 in the header
  kOffload,   // left to the device: the veth's transmit checksum, the TUN's virtio header
};
const char* checksum_name(Checksum checksum);

// The calling thread's network namespace is `name` from here on. Ends the program on failure.
void enter_namespace(const char* name);

struct SocketOptions {
  uint16_t port = 0;     // bound to; 0: any
  bool checksum = true;  // of what is sent
  uint16_t segment = 0;  // UDP_SEGMENT: bytes of each datagram; 0: off
  bool gro = false;      // UDP_GRO
};
// A non-blocking UDP socket in the namespace the thread is in.
OwnedFd open_socket(const SocketOptions& options);
void connect_to(int fd, uint32_t address, uint16_t port);

// Sets transmit checksum offload of a device in the namespace of `socket`.
void set_tx_checksum(int socket, const char* device, bool on);

// What stands in front of a packet for a TUN with a virtio header, and the packet: UDP from
// `source` to `destination`, `bytes` long with its headers.
struct TunPacket {
  VirtioNetHeader header;
  std::vector<uint8_t> packet;
};
// `segment`: payload bytes of each datagram of a large packet; 0: one datagram.
TunPacket make_tun_packet(uint32_t source, uint32_t destination, uint16_t port, size_t bytes,
                          Checksum checksum, uint16_t segment);

// Says what failed, with errno, and ends the program with code 1.
[[noreturn]] void fail(const std::string& what);

}  // namespace flannelette::bench
