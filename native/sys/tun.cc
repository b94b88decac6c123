#include "sys/tun.h"

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "sys/kernel.h"
#include "sys/netlink.h"

namespace flannelette {

namespace {

// A descriptor of the device `name`, which it creates when there is none; `name` becomes the name
// the kernel chose.
Result<OwnedFd> open_queue(std::string& name, int flags) {
  OwnedFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return Error{errno, "open /dev/net/tun", ""};
  ifreq request{};
  if (name.size() >= sizeof(request.ifr_name)) return Error{ENAMETOOLONG, "TUNSETIFF", name};
  std::memcpy(request.ifr_name, name.data(), name.size());
  request.ifr_flags = static_cast<short>(flags);
  if (::ioctl(fd.get(), TUNSETIFF, &request) < 0) return Error{errno, "TUNSETIFF", name};
  name = request.ifr_name;
  return fd;
}

}  // namespace

Result<Tun> Tun::open(const TunOptions& options) {
  int flags = IFF_TUN | IFF_NO_PI;
  if (options.vnet_header) flags |= IFF_VNET_HDR;
  if (options.multi_queue) flags |= IFF_MULTI_QUEUE;
  std::string name = options.name;
  auto fd = open_queue(name, flags);
  if (!fd.ok()) return std::move(fd.error());
  const int ifindex = static_cast<int>(::if_nametoindex(name.c_str()));
  if (ifindex == 0) return Error{errno, "if_nametoindex", name};
  return Tun(std::move(fd.value()), flags, std::move(name), ifindex);
}

int Tun::add_queues(size_t count) {
  while (fds_.size() < count) {
    auto fd = open_queue(name_, flags_);
    if (!fd.ok()) {
      fds_.resize(1);
      return fd.error().number;
    }
    fds_.push_back(std::move(fd.value()));
  }
  return 0;
}

int Tun::set_offload(bool tcp, bool udp) const {
  unsigned flags = TUN_F_CSUM;
  if (tcp) flags |= TUN_F_TSO4 | TUN_F_TSO_ECN;
  // The kernel takes both USO flags together or none (6.2).
  if (udp) flags |= TUN_F_USO4 | TUN_F_USO6;
  return ::ioctl(fd(), TUNSETOFFLOAD, flags) < 0 ? errno : 0;
}

Status Tun::configure(uint32_t address, uint32_t mtu, uint32_t queue_packets, Subnet overlay) {
  auto netlink = Netlink::open();
  if (!netlink.ok()) return netlink.error();
  if (auto error = netlink.value().add_address(ifindex_, address)) return error;
  if (auto error = netlink.value().set_up(ifindex_, mtu, queue_packets)) return error;
  return netlink.value().put_route(ifindex_, overlay, address);
}

Result<LinkQueue> Tun::queue() const {
  auto netlink = Netlink::open();
  if (!netlink.ok()) return std::move(netlink.error());
  return netlink.value().transmit_queue(ifindex_);
}

Result<bool> Tun::restore(uint32_t address, Subnet overlay) {
  auto netlink = Netlink::open();
  if (!netlink.ok()) return std::move(netlink.error());
  if (auto error = netlink.value().add_address(ifindex_, address)) return std::move(*error);
  auto added = netlink.value().add_missing_route(ifindex_, overlay, address);
  if (!added.ok() && added.error().number == ENETDOWN) return false;
  return added;
}

}  // namespace flannelette
