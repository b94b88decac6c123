// A TUN device (Documentation/networking/tuntap.rst): the kernel hands each IP packet routed to it
// to the descriptor's reader, and takes as received what is written.
//
// The device lives as long as its descriptors: closing the last removes the device, its address and
// its routes. Opened non-blocking; one thread reads, one writes. A device may have several queues,
// each a descriptor: the kernel keeps a flow on one queue, that of the flow's own answers once it
// has seen some (drivers/net/tun.c, tun_flow_update).
#pragma once

#include <linux/if_tun.h>

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

// What a device in service is to be.
struct DeviceSettings {
  uint32_t address = 0;  // with prefix length 32
  uint32_t mtu = 0;      // bytes
  uint32_t queue_packets = 0;
  Subnet overlay;  // routed through it as a whole
};

// What Tun::check found, and restored.
struct DeviceCheck {
  Link link;
  bool address_restored = false;
  bool carrier_restored = false;
  bool mtu_restored = false;
  RouteChange route = RouteChange::kNone;
  // Another device whose own network is the whole overlay. Its route is left alone: without it the
  // host would be cut off from that network.
  std::string overlay_taken_by;
  RouteLookup lookup;  // of the probe, afterwards
  std::string master;  // the device this one was made a port of (a VRF); empty for none
};

class Tun {
 public:
  static Result<Tun> open(const TunOptions& options);
  // The device whose queues, all of them, these descriptors are: opened by another process, or kept
  // for this one. Changes nothing of it. EBADFD: it was deleted; ENODEV: it is not in this network
  // namespace; EINVAL: no TUN as `open` makes them.
  static Result<Tun> adopt(std::vector<OwnedFd> queues);

  // Takes packets larger than the MTU from senders on this host (TUNSETOFFLOAD): TCP, and trains of
  // UDP too. Needs the virtio header. 0 or an errno; the device is then as before.
  int set_offload(bool tcp, bool udp) const;

  // Takes none any more; packets that wait already stay as they are.
  void leave_offload() const;

  // Opens every queue anew, with the virtio header or without: the kernel fixes it at the open. The
  // device stays, with its address and routes; packets that waited in its queues are lost, a few
  // microseconds without a queue. 0 or an errno: without a queue the device is deleted. ENODEV: it
  // is not in this network namespace, and nothing has changed.
  int reopen(bool vnet_header);

  // Opens more queues, `count` in all, of a device opened for several. 0 or an errno; there is one
  // queue then.
  int add_queues(size_t count);

  // Gives the device its address, MTU, length of the queue in front of each reader and, unless it
  // is to have none yet, the route of the overlay, and sets it up.
  Status configure(const DeviceSettings& settings, bool with_route = true);
  // The device as it is, and what its queue dropped when it was full.
  Result<Link> link() const;
  // Compares the device with `settings` and restores what others took away: the address, the route
  // (the kernel removes a device's routes when it is set down, and does not bring them back), an
  // MTU that is not larger than it may be. `probe` is an address of the overlay that this device
  // should lead to. A device that is down is left alone: somebody wants it so. ENODEV: it was
  // deleted, or moved to another network namespace.
  Result<DeviceCheck> check(const DeviceSettings& settings, uint32_t probe) const;

  // Routes of the overlay's two halves in place of its own, which another program may want to make:
  // they go before it. Nothing where the overlay is another device's own network. After an error
  // the route is as before.
  Status split_route(Subnet overlay) const;
  // The reverse; the overlay's route replaces another program's.
  Status join_route(Subnet overlay) const;
  // Takes the halves away: another program's route leads on.
  void leave_route(Subnet overlay) const;

  int fd(size_t queue = 0) const { return fds_[queue].get(); }
  size_t queues() const { return fds_.size(); }
  // Packets are behind a virtio_net_hdr.
  bool vnet_header() const { return (flags_ & IFF_VNET_HDR) != 0; }
  const std::string& name() const { return name_; }
  int ifindex() const { return ifindex_; }

 private:
  Result<DeviceCheck> restore_route(Netlink& netlink, const DeviceSettings& settings,
                                    uint32_t probe, DeviceCheck out) const;
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
