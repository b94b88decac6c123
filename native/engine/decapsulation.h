// Decapsulation: datagrams of the tunnel's port become packets the kernel receives from the TUN.
//
//   UDP --recvmmsg--> [check, source check, TTL - 1] --> ring --write--> TUN
//
// The source check (on by default) accepts a packet only when the datagram's sender holds the lease
// of the inner source and the inner destination lies in this host's own subnet: the port is open to
// everyone who reaches the host (compare CVE-2020-10136).
#pragma once

#include <netinet/in.h>

#include <array>

#include "engine/direction.h"

namespace flannelette {

class Decapsulation final : public Direction {
 public:
  explicit Decapsulation(const DirectionContext& context);

 protected:
  void run() override;

 private:
  // Receives and admits up to a batch; false when the socket had nothing.
  bool fill();
  void drain();
  // Receives up to `count` datagrams into the messages: how many, or a negative errno.
  int receive(size_t count);
  // Checks the datagram of one message and puts its packet into the ring.
  void admit(size_t message, size_t received, const ForwardingTable& table);
  // Whether the source check lets the packet pass; counts and reports it when not.
  bool trusted(const Ipv4Packet& packet, uint32_t outer_source, const ForwardingTable& table);

  EventSource refusals_;
  std::span<uint8_t> slots_;
  std::array<sockaddr_in, kBatchMax> sources_;
  std::array<iovec, kBatchMax> buffers_;
  std::array<mmsghdr, kBatchMax> messages_;
};

}  // namespace flannelette
