// A TUN device (Documentation/networking/tuntap.rst): the kernel hands each IP packet routed to it
// to the descriptor's reader, and takes as received what is written.
//
// The device lives as long as its descriptors: closing the last removes the device, its address and
// its routes. Opened non-blocking; one thread reads, one writes. A device may have several queues,
// each a descriptor: the kernel keeps a flow on one queue, that of the flow's own answers once it
// has seen some (drivers/net/tun.c, tun_flow_update).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/ipv4.h"
#include "core/result.h"
#include "sys/netlink.h"
#include "sys/owned_fd.h"

namespace flannelette {

struct TunOptions {
  std::string name = "flannel%d";  // %d: the first free number; at most 15 bytes
  // Every packet behind a virtio_net_hdr (IFF_VNET_HDR, Linux 2.6.27), which segmentation offloads
  // need. Without it packets travel bare.
  bool vnet_header = false;
  bool multi_queue = false;  // IFF_MULTI_QUEUE, Linux 3.8: add_queues may follow
};

class Tun {
 public:
  static Result<Tun> open(const TunOptions& options);

  // Takes packets larger than the MTU from senders on this host (TUNSETOFFLOAD): TCP, and trains of
  // UDP too. Needs the virtio header. 0 or an errno; the device is then as before.
  int set_offload(bool tcp, bool udp) const;

  // Opens more queues, `count` in all, of a device opened for several. 0 or an errno; there is one
  // queue then.
  int add_queues(size_t count);

  // Gives the device its address (/32), MTU, length of the queue in front of each reader (packets)
  // and route of the whole overlay, and sets it up.
  Status configure(uint32_t address, uint32_t mtu, uint32_t queue_packets, Subnet overlay);
  // The queue as it is, and what it dropped when it was full.
  Result<LinkQueue> queue() const;
  // Gives the device its address and route again when they are gone: the kernel removes a device's
  // routes when it is set down, and does not bring them back. True when something was missing.
  // A device that is down is left alone: somebody wants it so.
  Result<bool> restore(uint32_t address, Subnet overlay);

  int fd(size_t queue = 0) const { return fds_[queue].get(); }
  const std::string& name() const { return name_; }
  int ifindex() const { return ifindex_; }

 private:
  Tun(OwnedFd fd, int flags, std::string name, int ifindex)
      : flags_(flags), name_(std::move(name)), ifindex_(ifindex) {
    fds_.push_back(std::move(fd));
  }

  std::vector<OwnedFd> fds_;  // one for each queue
  int flags_;                 // of TUNSETIFF, the same for every queue
  std::string name_;
  int ifindex_;
};

}  // namespace flannelette
