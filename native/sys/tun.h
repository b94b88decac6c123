// A TUN device (Documentation/networking/tuntap.rst): the kernel hands each IP packet routed to it
// to the descriptor's reader, and takes as received what is written.
//
// The device lives as long as the descriptor: closing it removes the device, its address and its
// routes. Opened non-blocking; one thread reads, one writes.
#pragma once

#include <cstdint>
#include <string>

#include "core/ipv4.h"
#include "core/result.h"
#include "sys/owned_fd.h"

namespace flannelette {

struct TunOptions {
  std::string name = "flannel%d";  // %d: the first free number; at most 15 bytes
  // Every packet behind a virtio_net_hdr (IFF_VNET_HDR, Linux 2.6.27), which segmentation offloads
  // need. Without it packets travel bare.
  bool vnet_header = false;
  bool multi_queue = false;  // IFF_MULTI_QUEUE, Linux 3.8
};

class Tun {
 public:
  static Result<Tun> open(const TunOptions& options);

  // Takes packets larger than the MTU from senders on this host (TUNSETOFFLOAD): TCP, and trains of
  // UDP too. Needs the virtio header. 0 or an errno; the device is then as before.
  int set_offload(bool tcp, bool udp) const;

  // Gives the device its address (/32), MTU and route of the whole overlay, and sets it up.
  Status configure(uint32_t address, uint32_t mtu, Subnet overlay);
  // Gives the device its address and route again when they are gone: the kernel removes a device's
  // routes when it is set down, and does not bring them back. True when something was missing.
  // A device that is down is left alone: somebody wants it so.
  Result<bool> restore(uint32_t address, Subnet overlay);

  int fd() const { return fd_.get(); }
  const std::string& name() const { return name_; }
  int ifindex() const { return ifindex_; }

 private:
  Tun(OwnedFd fd, std::string name, int ifindex)
      : fd_(std::move(fd)), name_(std::move(name)), ifindex_(ifindex) {}

  OwnedFd fd_;
  std::string name_;
  int ifindex_;
};

}  // namespace flannelette
