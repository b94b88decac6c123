#include "sys/kernel_path.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <span>
#include <vector>

#include "sys/bpf.h"
#include "sys/interfaces.h"
#include "sys/io.h"

namespace flannelette {

namespace {

// Which instruction loads which map; 0: settings, 1: hosts, 2: counters.
using MapLoad = std::pair<uint32_t, uint32_t>;

#include "bpf/kernel_path.inc"

// The decapsulation device listens on the first of these that is free: above the ports that Linux
// gives to sockets by itself (net.ipv4.ip_local_port_range).
constexpr uint16_t kFirstPort = 61285;
constexpr uint16_t kPorts = 32;

// A program that outlives the process passes everything on after that; keep_alive comes each
// second.
constexpr uint64_t kAliveNs = 10'000'000'000;

constexpr uint32_t kQueuePackets = 1000;

// The same for each start with one address and port, so that a leftover is found, and different
// for daemons side by side; 14 characters.
std::string device_name(uint32_t local, uint16_t port, const char* prefix = "fx") {
  char name[IF_NAMESIZE];
  std::snprintf(name, sizeof(name), "%s%08x%04x", prefix, local, port);
  return name;
}

// Of a device whose way goes on until the next one stands.
std::string left_name(uint32_t local, uint16_t port) { return device_name(local, port, "fy"); }

Result<OwnedFd> load_with_maps(const char* name, std::span<const uint64_t> code,
                               std::span<const MapLoad> loads, std::span<const int> maps) {
  // struct bpf_insn as one word: opcode, registers (source in the upper half of the second byte),
  // offset, immediate.
  constexpr uint64_t kSourceIsMapFd = uint64_t{BPF_PSEUDO_MAP_FD} << 12;
  std::vector<uint64_t> linked(code.begin(), code.end());
  for (const auto& [instruction, map] : loads) {
    uint64_t& word = linked[instruction];
    word = (word & 0xffffffffU) | kSourceIsMapFd | uint64_t{static_cast<uint32_t>(maps[map])} << 32;
  }
  return load_bpf_program(name, linked);
}

// The programs read Ethernet headers; a WireGuard device has none.
bool is_ethernet(int ifindex) {
  const OwnedFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  if (!fd.valid() || ::if_indextoname(static_cast<unsigned>(ifindex), request.ifr_name) == nullptr)
    return false;
  return ::ioctl(fd.get(), SIOCGIFHWADDR, &request) == 0 &&
         request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
}

kernel_path_subnet key_of(Subnet subnet) { return {subnet.prefix, htonl(subnet.network)}; }

Status delete_named(Netlink& netlink, const std::string& name) {
  const unsigned index = ::if_nametoindex(name.c_str());
  return index == 0 ? std::nullopt : netlink.delete_link(static_cast<int>(index));
}

// It only receives: the MTU bounds nothing, and stays what follows from the tunnel device's.
Status set_up(Netlink& netlink, int ifindex) {
  auto link = netlink.link(ifindex);
  if (!link.ok()) return std::move(link.error());
  return netlink.set_up(ifindex, link.value().mtu, kQueuePackets);
}

}  // namespace

Result<KernelPath> KernelPath::open(const KernelPathOptions& options, bool beside_left) {
  // The instructions are kept in that order.
  if (std::endian::native != std::endian::little) return Error{ENOSYS, "bpf", "big-endian"};
  if (!is_ethernet(options.underlay)) return Error{EPFNOSUPPORT, "SIOCGIFHWADDR", "no Ethernet"};
  KernelPath path;
  if (auto error = path.make_maps()) return std::move(*error);
  if (auto error = path.make_device(options, beside_left)) return std::move(*error);
  if (auto error = path.load(options)) return std::move(*error);
  return path;
}

Status KernelPath::make_maps() {
  auto cpus = possible_cpus();
  if (!cpus.ok()) return std::move(cpus.error());
  cpus_ = cpus.value();
  const auto make = [](OwnedFd& out, const char* name, const BpfMapSpec& spec) -> Status {
    auto made = make_bpf_map(name, spec);
    if (!made.ok()) return std::move(made.error());
    out = std::move(made.value());
    return std::nullopt;
  };
  if (auto error = make(settings_, "fl_settings",
                        {.type = BPF_MAP_TYPE_ARRAY,
                         .key_bytes = sizeof(uint32_t),
                         .value_bytes = sizeof(kernel_path_settings),
                         .entries_max = 1}))
    return error;
  if (auto error = make(hosts_, "fl_hosts",
                        {.type = BPF_MAP_TYPE_LPM_TRIE,
                         .key_bytes = sizeof(kernel_path_subnet),
                         .value_bytes = sizeof(kernel_path_host),
                         .entries_max = KERNEL_PATH_HOSTS_MAX,
                         .flags = BPF_F_NO_PREALLOC}))
    return error;
  return make(counters_, "fl_counters",
              {.type = BPF_MAP_TYPE_PERCPU_ARRAY,
               .key_bytes = sizeof(uint32_t),
               .value_bytes = sizeof(uint64_t),
               .entries_max = KERNEL_PATH_COUNTERS});
}

Status KernelPath::make_device(const KernelPathOptions& options, bool beside_left) {
  auto loaded = load_with_maps("fl_admit", kAdmit, kAdmitMaps, maps());
  if (!loaded.ok()) return std::move(loaded.error());
  const OwnedFd& admit = loaded.value();
  auto opened = Netlink::open();
  if (!opened.ok()) return std::move(opened.error());
  Netlink& netlink = opened.value();
  // The device opens a socket of IPv6 too. Where that is a module, the kernel loads it then while
  // it holds the lock that the module needs, and hangs: it has to be there before.
  (void)OwnedFd(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  device_ = device_name(options.local, options.port);
  if (const unsigned left = ::if_nametoindex(device_.c_str()); left != 0 && beside_left) {
    const std::string aside = left_name(options.local, options.port);
    if (auto error = delete_named(netlink, aside)) return error;
    (void)netlink.rename_link(static_cast<int>(left), aside);
  }
  if (auto error = delete_named(netlink, device_)) return error;
  for (uint16_t i = 0;; ++i) {
    device_port_ = static_cast<uint16_t>(kFirstPort + i);
    const uint16_t port = htons(device_port_);
    auto refused = netlink.add_link(device_, "vxlan", [&](NetlinkMessage& message) {
      const uint8_t on = 1;
      const uint8_t off = 0;
      message.add(IFLA_VXLAN_COLLECT_METADATA, &on, sizeof(on));
      message.add(IFLA_VXLAN_GPE, nullptr, 0);
      message.add(IFLA_VXLAN_LEARNING, &off, sizeof(off));
      message.add(IFLA_VXLAN_PORT, &port, sizeof(port));
      message.add(IFLA_VXLAN_LINK, &options.tun, sizeof(options.tun));
    });
    if (!refused) {
      ifindex_ = static_cast<int>(::if_nametoindex(device_.c_str()));
      refused = netlink.add_program(ifindex_, ProgramPoint::kIngress, admit.get(), "fl_admit");
      // The socket is opened when the device goes up.
      if (!refused) refused = set_up(netlink, ifindex_);
      if (!refused) return std::nullopt;
      (void)netlink.delete_link(std::exchange(ifindex_, 0));
    }
    const bool taken = refused->number == EEXIST || refused->number == EADDRINUSE;
    if (!taken || i + 1 == kPorts) return refused;
  }
}

std::array<int, 3> KernelPath::maps() const {
  return {settings_.get(), hosts_.get(), counters_.get()};
}

Status KernelPath::load(const KernelPathOptions& options) {
  values_ = {
      .alive_until_ns = 0,
      .local = htonl(options.local),
      .own_network = htonl(options.own.network),
      .own_mask = htonl(prefix_mask(options.own.prefix)),
      .underlay = static_cast<uint32_t>(options.underlay),
      .tun = static_cast<uint32_t>(options.tun),
      .source_check = options.source_check ? 1U : 0U,
      .port = htons(options.port),
      .decapsulation_port = htons(device_port_),
  };
  if (auto error = keep_alive()) return error;
  if (auto error = attach(decapsulate_, "fl_decapsulate", kDecapsulate, kDecapsulateMaps,
                          options.underlay, ProgramPoint::kIngress))
    return error;
  return attach(encapsulate_, "fl_encapsulate", kEncapsulate, kEncapsulateMaps, options.tun,
                ProgramPoint::kEgress);
}

Status KernelPath::attach(OwnedFd& out, const char* name, std::span<const uint64_t> code,
                          std::span<const MapLoad> loads, int ifindex, ProgramPoint point) {
  auto program = load_with_maps(name, code, loads, maps());
  if (!program.ok()) return std::move(program.error());
  auto link = attach_tcx(program.value(), ifindex, point);
  if (link.ok()) {
    out = std::move(link.value());
    return std::nullopt;
  }
  if (link.error().number != EINVAL) return std::move(link.error());
  auto netlink = Netlink::open();
  if (!netlink.ok()) return std::move(netlink.error());
  const Filter filter{ifindex, point, device_};
  auto refused = netlink.value().add_program(ifindex, point, program.value().get(), filter.name);
  if (!refused) filters_.push_back(filter);
  return refused;
}

Status KernelPath::keep_alive() {
  values_.alive_until_ns = monotonic_ns() + kAliveNs;
  const uint32_t first = 0;
  return put_bpf_entry(settings_, &first, &values_);
}

void KernelPath::clear(uint32_t local, uint16_t port) {
  const std::string device = device_name(local, port);
  const std::string left = left_name(local, port);
  if (::if_nametoindex(device.c_str()) == 0 && ::if_nametoindex(left.c_str()) == 0) return;
  auto netlink = Netlink::open();
  auto listed = list_interfaces();
  if (!netlink.ok() || !listed.ok()) return;
  for (const Interface& interface : listed.value())
    (void)netlink.value().delete_program(static_cast<int>(interface.index), ProgramPoint::kIngress,
                                         device);
  (void)delete_named(netlink.value(), device);
  (void)delete_named(netlink.value(), left);
}

Status KernelPath::put_host(Subnet subnet, uint32_t host, uint32_t mtu) {
  const kernel_path_subnet key = key_of(subnet);
  const kernel_path_host value{htonl(host), mtu};
  return put_bpf_entry(hosts_, &key, &value);
}

Status KernelPath::delete_host(Subnet subnet) {
  const kernel_path_subnet key = key_of(subnet);
  return delete_bpf_entry(hosts_, &key);
}

Result<KernelPathCounters> KernelPath::counters() {
  std::vector<uint64_t> each(cpus_);
  std::array<uint64_t, KERNEL_PATH_COUNTERS> sums{};
  for (uint32_t i = 0; i < KERNEL_PATH_COUNTERS; ++i) {
    if (auto error = read_bpf_entry(counters_, &i, each.data())) return std::move(*error);
    for (const uint64_t value : each) sums[i] += value;
  }
  return KernelPathCounters{
      .sent_packets = sums[KERNEL_PATH_SENT_PACKETS],
      .sent_bytes = sums[KERNEL_PATH_SENT_BYTES],
      .handed_packets = sums[KERNEL_PATH_TAKEN_PACKETS],
      .received_packets = sums[KERNEL_PATH_RECEIVED_PACKETS],
      .received_bytes = sums[KERNEL_PATH_RECEIVED_BYTES],
      .refused_packets = sums[KERNEL_PATH_REFUSED_PACKETS],
  };
}

bool KernelPath::is_intact() const {
  return ::if_nametoindex(device_.c_str()) == static_cast<unsigned>(ifindex_);
}

std::vector<int> KernelPath::links() const {
  if (!encapsulate_.valid() || !decapsulate_.valid()) return {};
  return {encapsulate_.get(), decapsulate_.get()};
}

void KernelPath::leave() {
  if (links().empty() || keep_alive()) return close();
  encapsulate_.reset();
  decapsulate_.reset();
  ifindex_ = 0;
}

void KernelPath::end_left(std::vector<OwnedFd> links, uint32_t local, uint16_t port) {
  for (OwnedFd& link : links) detach_tcx(link);
  auto netlink = Netlink::open();
  if (netlink.ok()) (void)delete_named(netlink.value(), left_name(local, port));
}

void KernelPath::close() {
  detach_tcx(encapsulate_);
  detach_tcx(decapsulate_);
  const int ifindex = std::exchange(ifindex_, 0);
  const std::vector<Filter> filters = std::exchange(filters_, {});
  if (ifindex == 0 && filters.empty()) return;
  auto netlink = Netlink::open();
  if (!netlink.ok()) return;
  for (const Filter& filter : filters)
    (void)netlink.value().delete_program(filter.ifindex, filter.point, filter.name);
  if (ifindex != 0) (void)netlink.value().delete_link(ifindex);
}

KernelPath::KernelPath(KernelPath&& other) noexcept { *this = std::move(other); }

KernelPath& KernelPath::operator=(KernelPath&& other) noexcept {
  if (this == &other) return *this;
  close();
  settings_ = std::move(other.settings_);
  hosts_ = std::move(other.hosts_);
  counters_ = std::move(other.counters_);
  cpus_ = other.cpus_;
  ifindex_ = std::exchange(other.ifindex_, 0);
  device_ = std::move(other.device_);
  device_port_ = other.device_port_;
  values_ = other.values_;
  filters_ = std::exchange(other.filters_, {});
  decapsulate_ = std::move(other.decapsulate_);
  encapsulate_ = std::move(other.encapsulate_);
  return *this;
}

KernelPath::~KernelPath() { close(); }

}  // namespace flannelette
