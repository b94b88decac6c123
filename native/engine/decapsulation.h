// Decapsulation: datagrams of the tunnel's port become packets the kernel receives from the TUN.
//
//   UDP --recvmmsg--> [check, source check, TTL - 1] --> ring --write--> TUN
//   UDP --recvmmsg, trains--> [the same for each] --> ring --> [coalesce] --writev--> TUN
//
// With UDP_GRO one receive may bring a train: datagrams of one sender and one length, the last
// perhaps shorter, back to back. Each is a packet of its own and is checked as such. A TUN with a
// virtio header takes several packets of one flow in one write (core/coalesce.h); one it refuses is
// repeated packet by packet.
//
// A packet whose checksum its sender left to a device (core/unfinished.h) is handed on to the TUN
// as unfinished as it is, or finished here where the TUN has no virtio header.
//
// The source check (on by default) accepts a packet only when the datagram's sender holds the lease
// of the inner source, or holds a lease and is the inner source itself, and when the inner
// destination lies in this host's own subnet: the port is open to everyone who reaches the host
// (compare CVE-2020-10136). The sender's own address is how a node answers a container that asked
// the node: without masquerading the question goes by the underlay, the answer by the tunnel.
#pragma once

#include <netinet/in.h>

#include <array>

#include "core/coalesce.h"
#include "engine/direction.h"

namespace flannelette {

class Decapsulation final : public Direction {
 public:
  explicit Decapsulation(const DirectionContext& context);

 protected:
  Turn turn() override;

 private:
  // Aligned and sized for one control message with an int.
  struct alignas(cmsghdr) Control {
    std::array<uint8_t, CMSG_SPACE(sizeof(int))> bytes;
  };

  // Receives and admits up to a batch; false when the socket had nothing.
  bool fill();
  // Receives up to `count` datagrams into the messages: how many, or a negative errno.
  int receive(size_t count, bool mmsg);
  void receive_failed(int number, bool mmsg);
  // Takes the datagrams of one message apart.
  void admit_message(size_t message, size_t received, const ForwardingTable& table);
  // Checks one datagram, at `offset` of the reservation, and puts its packet into the ring.
  void admit(size_t offset, size_t length, uint32_t outer_source, const ForwardingTable& table);
  // Whether the source check lets the packet pass; counts and reports it when not.
  bool trusted(const Ipv4Packet& packet, uint32_t outer_source, const ForwardingTable& table);

  // Writes what the ring holds.
  void drain();
  void drain_trains();
  void write_trains();
  void write_train(size_t train);
  // Whether the TUN took a train; gives up trains of a kind that it always refuses.
  void note_train(uint8_t gso_type, int number);
  // Packet by packet what the TUN does not take as a train.
  void write_originals(size_t train);
  // Writes a packet that is not finished: as it is, for the kernel to finish, or finished here.
  void write_unfinished(const Ipv4Packet& packet);
  int write_finished(const VirtioNetHeader& offload, const Ipv4Packet& packet);
  // Writes one packet or train, waiting a while for a TUN that takes nothing: 0 or an errno.
  int write_pieces(const iovec* pieces, size_t count);
  // Accounts for packets that were written, or could not be.
  void wrote(int number, size_t packets, size_t bytes);

  EventSource refused_holders_;    // of datagrams from hosts that hold a lease
  EventSource refused_strangers_;  // from others
  Coalescer coalescer_;
  std::array<int, 2> refused_trains_{};  // in a row: TCP, UDP
  std::span<uint8_t> slots_;
  std::array<sockaddr_in, kBatchMax> sources_;
  std::array<iovec, kBatchMax> buffers_;
  std::array<Control, kBatchMax> controls_;
  std::array<mmsghdr, kBatchMax> messages_;
};

}  // namespace flannelette
