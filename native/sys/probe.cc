#include "sys/probe.h"

#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "sys/address.h"
#include "sys/fou.h"
#include "sys/fou_admission.h"
#include "sys/kernel.h"
#include "sys/kernel_path.h"
#include "sys/netlink.h"
#include "sys/scheduling.h"
#include "sys/thread_filter.h"
#include "sys/tun.h"

namespace flannelette {

namespace {

std::string refused(const char* operation, int number) {
  return std::string(operation) + ": " + std::strerror(number);
}

Feature feature(const char* name, const char* since, const char* operation, int error) {
  Feature out{name, since, presence_after(error)};
  out.detail = error == 0 ? std::string(operation) + " accepted" : refused(operation, error);
  return out;
}

void probe_tun(std::vector<Feature>& out, int namespace_error) {
  const auto all = [&out](Presence presence, const std::string& why) {
    for (const auto& [name, since] : {std::pair{"tun", "2.4"}, std::pair{"tun-vnet-hdr", "2.6.27"},
                                      std::pair{"tun-tso", "2.6.27"}, std::pair{"tun-uso", "6.2"},
                                      std::pair{"multiqueue", "3.8"}})
      out.push_back({name, since, presence, why});
  };
  if (namespace_error != 0) {
    // Opening makes no device yet: that much can be tried outside a namespace of our own.
    const OwnedFd driver(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    const int error = driver.valid() ? 0 : errno;
    if (presence_after(error) == Presence::kNo)
      return all(Presence::kNo, refused("open /dev/net/tun", error));
    return all(Presence::kUntried, refused("unshare CLONE_NEWNET", namespace_error));
  }
  auto plain = Tun::open({});
  if (!plain.ok()) {
    const int error = plain.error().number;
    return all(presence_after(error), refused(plain.error().operation, error));
  }
  out.push_back({"tun", "2.4", Presence::kYes, "TUNSETIFF accepted"});

  TunOptions with_header;
  with_header.vnet_header = true;
  auto header = Tun::open(with_header);
  out.push_back(feature("tun-vnet-hdr", "2.6.27", "TUNSETIFF IFF_VNET_HDR",
                        header.ok() ? 0 : header.error().number));
  const auto offload = [&header](unsigned flags) {
    if (!header.ok()) return header.error().number;
    return ::ioctl(header.value().fd(), TUNSETOFFLOAD, flags) < 0 ? errno : 0;
  };
  out.push_back(
      feature("tun-tso", "2.6.27", "TUNSETOFFLOAD TUN_F_TSO4", offload(TUN_F_CSUM | TUN_F_TSO4)));
  // The kernel takes both USO flags together or none.
  out.push_back(feature("tun-uso", "6.2", "TUNSETOFFLOAD TUN_F_USO4",
                        offload(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_USO4 | TUN_F_USO6)));

  TunOptions with_queues;
  with_queues.multi_queue = true;
  auto queues = Tun::open(with_queues);
  out.push_back(feature("multiqueue", "3.8", "TUNSETIFF IFF_MULTI_QUEUE",
                        queues.ok() ? 0 : queues.error().number));
}

// With a veth pair in place of the external interface; after the TUN, which comes first.
void probe_kernel_path(std::vector<Feature>& out, int namespace_error) {
  constexpr const char* kName = "kernel-path";
  constexpr const char* kSince = "5.10";
  if (out.front().presence == Presence::kNo) {
    out.push_back({kName, kSince, Presence::kNo, out.front().detail});
    return;
  }
  if (namespace_error != 0) {
    out.push_back(
        {kName, kSince, Presence::kUntried, refused("unshare CLONE_NEWNET", namespace_error)});
    return;
  }
  const auto set_up = []() -> Status {
    auto tun = Tun::open({});
    if (!tun.ok()) return std::move(tun.error());
    auto netlink = Netlink::open();
    if (!netlink.ok()) return std::move(netlink.error());
    const auto name_peer = [](NetlinkMessage& message) {
      // Before Linux 4.12 one without a name gets that of the first, which is taken.
      const ifinfomsg none{};
      rtattr* peer = message.add(VETH_INFO_PEER, &none, sizeof(none));
      message.add(IFLA_IFNAME, "peer", sizeof("peer"));
      message.close(peer);
    };
    if (auto error = netlink.value().add_link("external", "veth", name_peer)) return error;
    auto path = KernelPath::open({.own = {0, 24},
                                  .underlay = static_cast<int>(::if_nametoindex("external")),
                                  .tun = tun.value().ifindex()});
    if (!path.ok()) return std::move(path.error());
    return std::nullopt;
  };
  const Status error = set_up();
  Feature found = feature(kName, kSince, error ? error->operation : "eBPF and VXLAN-GPE",
                          error ? error->number : 0);
  // A verifier's refusal is the kernel's last word, not a missing privilege.
  if (error && error->number == EACCES) found.presence = Presence::kNo;
  out.push_back(found);
}

void probe_fou(std::vector<Feature>& out, int namespace_error) {
  constexpr const char* kName = "fou";
  constexpr const char* kSince = "3.18";
  if (namespace_error != 0) {
    out.push_back(
        {kName, kSince, Presence::kUntried, refused("unshare CLONE_NEWNET", namespace_error)});
    return;
  }
  const auto set_up = []() -> Status {
    // An address that is there; 0.0.0.0 is that of tunl0, which the module brings.
    const FouEnd end{INADDR_LOOPBACK, 8285};
    auto netlink = Netlink::open();
    if (!netlink.ok()) return std::move(netlink.error());
    if (auto error = netlink.value().set_up(static_cast<int>(::if_nametoindex("lo")), 65536, 1000))
      return error;
    if (auto port = open_fou_port(end); !port.ok()) return std::move(port.error());
    auto made = make_fou_device({.end = end, .name = "fou%d"});
    if (!made.ok()) return std::move(made.error());
    auto up = restore_fou_device(made.value(), 0xc0000201, 1472);
    if (!up.ok()) return std::move(up.error());
    const Route host{{0xc6336400, 24}, 0xc0000202};
    return put_fou_admission(
        {.end = end, .ifindex = made.value(), .own = {0xc0000200, 24}, .hosts = {&host, 1}});
  };
  const Status error = set_up();
  Feature found = feature(kName, kSince, error ? error->operation : "FOU, ipip and nf_tables",
                          error ? error->number : 0);
  // What is missing says more than the request that was refused.
  if (error && !error->detail.empty()) found.detail = error->detail;
  out.push_back(found);
}

void probe_udp(std::vector<Feature>& out) {
  const OwnedFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int no_socket = fd.valid() ? 0 : errno;
  const auto with_socket = [no_socket](auto call) {
    if (no_socket != 0) return no_socket;
    return call() < 0 ? errno : 0;
  };
  // An unbound socket has nothing to receive and the call no message to send: only a kernel
  // without the call answers ENOSYS.
  mmsghdr message{};
  const auto known = [](int error) { return error == EAGAIN || error == EINVAL ? 0 : error; };
  const int receive =
      known(with_socket([&] { return ::recvmmsg(fd.get(), &message, 1, MSG_DONTWAIT, nullptr); }));
  const int send =
      known(with_socket([&] { return ::sendmmsg(fd.get(), &message, 0, MSG_DONTWAIT); }));
  out.push_back(feature("mmsg", "3.0", "recvmmsg, sendmmsg", receive != 0 ? receive : send));

  const int segment = 1400;
  out.push_back(feature("udp-gso", "4.18", "setsockopt UDP_SEGMENT", with_socket([&] {
                          return ::setsockopt(fd.get(), IPPROTO_UDP, UDP_SEGMENT, &segment,
                                              sizeof(segment));
                        })));
  const int on = 1;
  Feature gro = feature("udp-gro", "5.12", "setsockopt UDP_GRO", with_socket([&] {
                          return ::setsockopt(fd.get(), IPPROTO_UDP, UDP_GRO, &on, sizeof(on));
                        }));
  if (gro.presence == Presence::kYes && kernel_version() < kSafeGroVersion) {
    gro.presence = Presence::kNo;
    gro.detail = "accepted, but kernels before 5.12 lose packets with it";
  }
  out.push_back(gro);
}

void probe_seccomp(std::vector<Feature>& out) {
  out.push_back(feature("seccomp", "3.5", "prctl PR_SET_SECCOMP", check_seccomp()));
}

}  // namespace

Presence presence_after(int error) {
  switch (error) {
    case 0:
      return Presence::kYes;
    case ENOSYS:
    case EINVAL:
    case ENOPROTOOPT:
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
    case ENOTTY:
    case ENODEV:
    case ENXIO:
    case ENOENT:
      return Presence::kNo;
    default:
      return Presence::kUntried;
  }
}

const char* presence_name(Presence presence) {
  switch (presence) {
    case Presence::kYes:
      return "yes";
    case Presence::kNo:
      return "no";
    case Presence::kUntried:
      break;
  }
  return "untried";
}

Result<std::vector<Feature>> probe_features() {
  std::vector<Feature> out;
  // unshare(2) of the network namespace acts on the calling thread alone.
  const auto work = [](void* features) -> void* {
    auto& found = *static_cast<std::vector<Feature>*>(features);
    const int error = ::unshare(CLONE_NEWNET) < 0 ? errno : 0;
    probe_tun(found, error);
    probe_udp(found);
    probe_fou(found, error);
    probe_kernel_path(found, error);
    probe_seccomp(found);
    return nullptr;
  };
  pthread_t thread{};
  if (auto error = start_thread(thread, "probe", -1, work, &out)) return std::move(*error);
  ::pthread_join(thread, nullptr);
  return out;
}

}  // namespace flannelette
