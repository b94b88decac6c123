#include "sys/tun.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>

#include "sys/handover.h"
#include "sys/kernel.h"
#include "sys/netlink.h"

namespace flannelette {

namespace {

// Another process that had the only queue too closes it within this time.
constexpr int kBusyTries = 500;
constexpr timespec kBusyPause = {0, 2'000'000};

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

// Before Linux 5.14 the first address of another device's subnet is a broadcast address, the
// gateway's bridge has the subnet that begins with this device's address, and whichever came first
// decides: what is sent to the address would not be received.
Status claim_address(Netlink& netlink, int ifindex, uint32_t address) {
  auto found = netlink.look_up(address);
  if (!found.ok()) return std::move(found.error());
  if (found.value().type != RTN_BROADCAST) return std::nullopt;
  return netlink.put_local_route(ifindex, address);
}

// IPv4 address of an interface.
bool has_network(const ifaddrs& entry, Subnet network) {
  if (entry.ifa_addr == nullptr || entry.ifa_addr->sa_family != AF_INET) return false;
  if (entry.ifa_netmask == nullptr) return false;
  const auto value = [](const sockaddr* from) {
    return ntohl(reinterpret_cast<const sockaddr_in*>(from)->sin_addr.s_addr);
  };
  return value(entry.ifa_netmask) == prefix_mask(network.prefix) &&
         network.contains(value(entry.ifa_addr));
}

// The name of another device whose own network is exactly the overlay; empty for none. A tunnel
// without a daemon does not count.
Result<std::string> overlay_taken_by(Subnet overlay, const std::string& own_name) {
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) < 0) return Error{errno, "getifaddrs", ""};
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> list(first, &::freeifaddrs);
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    const unsigned flags = entry->ifa_flags;
    const bool unserved = (flags & (IFF_POINTOPOINT | IFF_RUNNING)) == IFF_POINTOPOINT;
    if ((flags & IFF_UP) == 0 || unserved || entry->ifa_name == own_name) continue;
    if (has_network(*entry, overlay)) return std::string(entry->ifa_name);
  }
  return std::string();
}

// Of a network of at most 31 bits.
std::array<Subnet, 2> halves(Subnet network) {
  const uint32_t prefix = network.prefix + 1;
  return {{{network.network, prefix}, {network.network | 1U << (32 - prefix), prefix}}};
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

Result<Tun> Tun::adopt(std::vector<OwnedFd> queues) {
  if (queues.empty()) return Error{EINVAL, "TUNGETIFF", "no queue"};
  std::string name;
  int flags = 0;
  for (const OwnedFd& queue : queues) {
    ifreq request{};
    if (::ioctl(queue.get(), TUNGETIFF, &request) < 0) return Error{errno, "TUNGETIFF", name};
    constexpr int kExpected = IFF_TUN | IFF_NO_PI;
    if ((request.ifr_flags & kExpected) != kExpected || (!name.empty() && name != request.ifr_name))
      return Error{EINVAL, "TUNGETIFF", request.ifr_name};
    name = request.ifr_name;
    flags = request.ifr_flags & (kExpected | IFF_VNET_HDR | IFF_MULTI_QUEUE);
    if (const int number = keep_private(queue.get())) return Error{number, "fcntl", name};
  }
  const int ifindex = static_cast<int>(::if_nametoindex(name.c_str()));
  if (ifindex == 0) return Error{errno, "if_nametoindex", name};
  const size_t count = queues.size();
  Tun tun(std::move(queues[0]), flags, std::move(name), ifindex);
  for (size_t i = 1; i < count; ++i) tun.fds_.push_back(std::move(queues[i]));
  return tun;
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

void Tun::leave_offload() const { (void)::ioctl(fd(), TUNSETOFFLOAD, 0); }

int Tun::reopen(bool vnet_header) {
  std::array<char, IF_NAMESIZE> name{};
  // It may have been renamed.
  if (::if_indextoname(static_cast<unsigned>(ifindex_), name.data()) == nullptr) return ENODEV;
  if (::ioctl(fd(), TUNSETPERSIST, 1) < 0) return errno;
  name_ = name.data();
  const size_t queues = fds_.size();
  flags_ = vnet_header ? flags_ | IFF_VNET_HDR : flags_ & ~IFF_VNET_HDR;
  fds_.clear();
  auto first = open_queue(name_, flags_);
  for (int tries = 0; !first.ok() && first.error().number == EBUSY && tries < kBusyTries; ++tries) {
    (void)::nanosleep(&kBusyPause, nullptr);
    first = open_queue(name_, flags_);
  }
  if (!first.ok()) {
    if (auto netlink = Netlink::open(); netlink.ok()) (void)netlink.value().delete_link(ifindex_);
    return first.error().number;
  }
  fds_.push_back(std::move(first.value()));
  (void)::ioctl(fd(), TUNSETPERSIST, 0);
  return add_queues(queues);
}

Status Tun::configure(const DeviceSettings& settings, bool with_route) {
  auto opened = Netlink::open();
  if (!opened.ok()) return opened.error();
  Netlink& netlink = opened.value();
  auto added = netlink.add_address(ifindex_, settings.address);
  if (!added.ok()) return added.error();
  if (auto error = netlink.set_up(ifindex_, settings.mtu, settings.queue_packets)) return error;
  if (auto error = claim_address(netlink, ifindex_, settings.address)) return error;
  if (!with_route) return std::nullopt;
  auto taken = overlay_taken_by(settings.overlay, name_);
  if (!taken.ok()) return taken.error();
  if (!taken.value().empty()) return std::nullopt;
  auto put = netlink.put_route(ifindex_, settings.overlay);
  return put.ok() ? std::nullopt : Status(put.error());
}

Status Tun::split_route(Subnet overlay) const {
  auto taken = overlay_taken_by(overlay, name_);
  if (!taken.ok()) return taken.error();
  if (!taken.value().empty()) return std::nullopt;
  auto netlink = Netlink::open();
  if (!netlink.ok()) return netlink.error();
  for (const Subnet half : halves(overlay)) {
    if (auto put = netlink.value().put_route(ifindex_, half); !put.ok()) {
      leave_route(overlay);
      return put.error();
    }
  }
  return netlink.value().delete_route(ifindex_, overlay);
}

Status Tun::join_route(Subnet overlay) const {
  auto taken = overlay_taken_by(overlay, name_);
  if (!taken.ok()) return taken.error();
  if (!taken.value().empty()) return std::nullopt;
  auto netlink = Netlink::open();
  if (!netlink.ok()) return netlink.error();
  if (auto put = netlink.value().put_route(ifindex_, overlay); !put.ok()) return put.error();
  leave_route(overlay);
  return std::nullopt;
}

void Tun::leave_route(Subnet overlay) const {
  auto netlink = Netlink::open();
  if (!netlink.ok()) return;
  for (const Subnet half : halves(overlay)) (void)netlink.value().delete_route(ifindex_, half);
}

Result<Link> Tun::link() const {
  auto netlink = Netlink::open();
  if (!netlink.ok()) return std::move(netlink.error());
  return netlink.value().link(ifindex_);
}

Result<DeviceCheck> Tun::check(const DeviceSettings& settings, uint32_t probe) const {
  auto opened = Netlink::open();
  if (!opened.ok()) return std::move(opened.error());
  Netlink& netlink = opened.value();
  DeviceCheck out;
  auto link = netlink.link(ifindex_);
  if (!link.ok()) return std::move(link.error());
  out.link = std::move(link.value());
  std::array<char, IF_NAMESIZE> name{};
  const auto* known = ::if_indextoname(static_cast<unsigned>(out.link.master), name.data());
  if (known != nullptr) out.master = known;
  if (!out.link.up) return out;

  if (!out.link.carrier) {
    if (auto error = netlink.set_carrier(ifindex_)) return std::move(*error);
    out.carrier_restored = true;
  }
  if (out.link.mtu > settings.mtu) {
    if (auto error = netlink.set_mtu(ifindex_, settings.mtu)) return std::move(*error);
    out.link.mtu = settings.mtu;
    out.mtu_restored = true;
  }
  auto added = netlink.add_address(ifindex_, settings.address);
  if (!added.ok()) return std::move(added.error());
  out.address_restored = added.value();
  if (auto error = claim_address(netlink, ifindex_, settings.address)) return std::move(*error);
  return restore_route(netlink, settings, probe, std::move(out));
}

Result<DeviceCheck> Tun::restore_route(Netlink& netlink, const DeviceSettings& settings,
                                       uint32_t probe, DeviceCheck out) const {
  auto added = netlink.add_route(ifindex_, settings.overlay);
  if (!added.ok()) {
    // It was set down since.
    if (added.error().number != ENETDOWN) return std::move(added.error());
    out.link.up = false;
    return out;
  }
  if (added.value()) out.route = RouteChange::kAdded;
  auto found = netlink.look_up(probe);
  if (!found.ok()) return std::move(found.error());
  out.lookup = found.value();
  // A route that leads here is good, whatever else somebody wrote into it.
  if (added.value() || out.lookup.ifindex == ifindex_) return out;
  auto taken = overlay_taken_by(settings.overlay, name_);
  if (!taken.ok()) return std::move(taken.error());
  out.overlay_taken_by = std::move(taken.value());
  if (!out.overlay_taken_by.empty()) return out;
  auto put = netlink.put_route(ifindex_, settings.overlay);
  if (!put.ok()) return std::move(put.error());
  out.route = put.value();
  if (out.route == RouteChange::kNone) return out;
  found = netlink.look_up(probe);
  if (!found.ok()) return std::move(found.error());
  out.lookup = found.value();
  return out;
}

}  // namespace flannelette
