#include "sys/fou.h"

// linux/if.h, which others include, gives way to this one when it comes first.
// clang-format off
#include <net/if.h>
// clang-format on

#include <arpa/inet.h>
#include <linux/ethtool.h>
#include <linux/fou.h>
#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "sys/address.h"
#include "sys/netlink.h"
#include "sys/netlink_batch.h"
#include "sys/netlink_dump.h"
#include "sys/udp_socket.h"

namespace flannelette {

namespace {

// rtm_protocol of the overlay's route, by which it is told from those of others (rtnetlink(7):
// values above RTPROT_STATIC are free).
constexpr uint8_t kOverlayProtocol = 82;
constexpr int kNamesMax = 256;
// No queue in front of a tunnel's device; the value of other devices.
constexpr uint32_t kQueuePackets = 1000;

constexpr const char* kAliasBegin = "flannelette fou ";

std::string alias_of(const FouEnd& end) {
  return kAliasBegin + format_address(end.local) + ":" + std::to_string(end.port);
}

std::string text_of_end(const FouEnd& end) {
  return format_address(end.local) + ":" + std::to_string(end.port);
}

// Number of generic netlink's family "fou"; ENOENT without the module.
Result<uint16_t> fou_family() {
  NetlinkBatch batch(NETLINK_GENERIC);
  batch.begin(GENL_ID_CTRL, NLM_F_ACK, genlmsghdr{CTRL_CMD_GETFAMILY, 1, 0});
  batch.add_text(CTRL_ATTR_FAMILY_NAME, FOU_GENL_NAME);
  uint16_t id = 0;
  auto refused = batch.send("fou", [&](nlmsghdr& reply) {
    each_attribute<genlmsghdr>(&reply, [&](uint16_t type, const void* data, size_t bytes) {
      if (type == CTRL_ATTR_FAMILY_ID) id = static_cast<uint16_t>(number_of(data, bytes));
    });
  });
  if (refused && refused->number == ENOENT)
    refused->detail = "module fou: not loaded, or none (CONFIG_NET_FOU)";
  if (refused) return std::move(*refused);
  if (id == 0) return Error{ENOENT, "fou", ""};
  return id;
}

Status fou_port_request(uint8_t command, const FouEnd& end) {
  auto family = fou_family();
  if (!family.ok()) return std::move(family.error());
  NetlinkBatch batch(NETLINK_GENERIC);
  batch.begin(family.value(), NLM_F_ACK, genlmsghdr{command, FOU_GENL_VERSION, 0});
  batch.add_u16(FOU_ATTR_PORT, htons(end.port));
  batch.add_u8(FOU_ATTR_AF, AF_INET);
  batch.add_u8(FOU_ATTR_IPPROTO, IPPROTO_IPIP);
  batch.add_u8(FOU_ATTR_TYPE, FOU_ENCAP_DIRECT);
  if (end.local != 0) batch.add_u32(FOU_ATTR_LOCAL_V4, htonl(end.local));
  auto refused = batch.send(command == FOU_CMD_ADD ? "FOU_CMD_ADD" : "FOU_CMD_DEL");
  if (refused) refused->detail = text_of_end(end);
  return refused;
}

// Whether the kernel has the port, which is the same for every answer but ESRCH.
Result<bool> has_fou_port(const FouEnd& end) {
  auto family = fou_family();
  if (!family.ok()) return std::move(family.error());
  NetlinkBatch batch(NETLINK_GENERIC);
  batch.begin(family.value(), NLM_F_DUMP, genlmsghdr{FOU_CMD_GET, FOU_GENL_VERSION, 0});
  bool found = false;
  auto refused = batch.send("FOU_CMD_GET", [&](nlmsghdr& reply) {
    uint16_t port = 0;
    uint32_t local = 0;
    uint8_t protocol = 0;
    each_attribute<genlmsghdr>(&reply, [&](uint16_t type, const void* data, size_t bytes) {
      if (type == FOU_ATTR_PORT) port = ntohs(static_cast<uint16_t>(number_of(data, bytes)));
      if (type == FOU_ATTR_LOCAL_V4) local = ntohl(number_of(data, bytes));
      if (type == FOU_ATTR_IPPROTO) protocol = static_cast<uint8_t>(number_of(data, bytes));
    });
    // Before Linux 5.2 a port has no address.
    if (port == end.port && protocol == IPPROTO_IPIP && (local == end.local || local == 0))
      found = true;
  });
  if (refused) return std::move(*refused);
  return found;
}

struct AliasedLink {
  int ifindex;
  std::string alias;
};

// ipip devices that were made here.
Result<std::vector<AliasedLink>> list_own() {
  return list_again([]() -> Result<std::vector<AliasedLink>> {
    std::vector<AliasedLink> out;
    Question<ifinfomsg> question(RTM_GETLINK, NLM_F_DUMP);
    auto refused = ask(question, "RTM_GETLINK", [&](nlmsghdr* message) {
      const auto* head = family_of<ifinfomsg>(*message);
      if (message->nlmsg_type != RTM_NEWLINK || head == nullptr) return;
      AliasedLink found{head->ifi_index, ""};
      bool ipip = false;
      each_attribute<ifinfomsg>(message, [&](uint16_t type, const void* data, size_t bytes) {
        if (type == IFLA_IFALIAS) found.alias = text_of(data, bytes);
        if (type != IFLA_LINKINFO) return;
        each_nested(data, bytes, [&](uint16_t part, const void* inner, size_t size) {
          if (part == IFLA_INFO_KIND) ipip = text_of(inner, size) == "ipip";
        });
      });
      if (ipip && found.alias.starts_with(kAliasBegin)) out.push_back(std::move(found));
    });
    if (refused) return std::move(*refused);
    return out;
  });
}

Status add_device(Netlink& netlink, const std::string& name, const FouDevice& device) {
  return netlink.add_link(name, "ipip", [&](NetlinkMessage& message) {
    const uint8_t ttl = 64;
    const uint8_t protocol = IPPROTO_IPIP;
    // DF of a datagram is that of the packet in it.
    const uint8_t discover = 0;
    const uint16_t encapsulation = TUNNEL_ENCAP_FOU;
    const uint16_t flags = TUNNEL_ENCAP_FLAG_CSUM;
    const uint16_t from = htons(device.source_port);
    const uint16_t to = htons(device.end.port);
    message.add_u32(IFLA_IPTUN_LOCAL, htonl(device.end.local));
    message.add(IFLA_IPTUN_TTL, &ttl, sizeof(ttl));
    message.add(IFLA_IPTUN_PROTO, &protocol, sizeof(protocol));
    message.add(IFLA_IPTUN_PMTUDISC, &discover, sizeof(discover));
    message.add(IFLA_IPTUN_ENCAP_TYPE, &encapsulation, sizeof(encapsulation));
    message.add(IFLA_IPTUN_ENCAP_FLAGS, &flags, sizeof(flags));
    message.add(IFLA_IPTUN_ENCAP_SPORT, &from, sizeof(from));
    message.add(IFLA_IPTUN_ENCAP_DPORT, &to, sizeof(to));
  });
}

// A switch of the device by ethtool(8), read and set: true when it had to be switched off.
Result<bool> switch_off(int ifindex, uint32_t read, uint32_t set, const char* operation) {
  const OwnedFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  ethtool_value value{read, 0};
  request.ifr_data = reinterpret_cast<char*>(&value);
  if (!fd.valid() || ::if_indextoname(static_cast<unsigned>(ifindex), request.ifr_name) == nullptr)
    return Error{errno, operation, ""};
  if (::ioctl(fd.get(), SIOCETHTOOL, &request) < 0) return Error{errno, operation, ""};
  if (value.data == 0) return false;
  value = {set, 0};
  if (::ioctl(fd.get(), SIOCETHTOOL, &request) < 0) return Error{errno, operation, ""};
  return true;
}

// Whether a program has the port, asked before anything is made: a daemon may wait for it. A port
// of FOU itself is told from it later, by whose it is.
Status port_taken(const FouEnd& end) {
  auto socket = open_udp_socket(end.local, end.port, 0);
  if (socket.ok()) return {};
  if (socket.error().number == EADDRINUSE) {
    auto present = has_fou_port(end);
    if (!present.ok()) return std::move(present.error());
    if (present.value()) return {};
  }
  return std::move(socket.error());
}

}  // namespace

Result<int> make_fou_device(const FouDevice& device) {
  if (auto taken = port_taken(device.end)) return std::move(*taken);
  auto opened = Netlink::open();
  if (!opened.ok()) return std::move(opened.error());
  Netlink& netlink = opened.value();
  const size_t number_at = device.name.find("%d");
  for (int i = 0;; ++i) {
    std::string name = device.name;
    if (number_at != std::string::npos) name.replace(number_at, 2, std::to_string(i));
    auto refused = add_device(netlink, name, device);
    const bool taken = refused && refused->number == EEXIST;
    // The kernel has one ipip device for each pair of addresses, whatever its name.
    if (taken && ::if_nametoindex(name.c_str()) == 0)
      refused->detail = "another ipip device has " + format_address(device.end.local);
    else if (taken && number_at != std::string::npos && i + 1 < kNamesMax)
      continue;
    if (refused && refused->number == EOPNOTSUPP)
      refused->detail = "no module ipip (CONFIG_NET_IPIP)";
    if (refused && refused->number == EINVAL)
      refused->detail = "ipip without FOU (CONFIG_NET_FOU_IP_TUNNELS)";
    if (refused) return std::move(*refused);
    const auto ifindex = static_cast<int>(::if_nametoindex(name.c_str()));
    if (auto error = netlink.set_alias(ifindex, alias_of(device.end))) {
      (void)netlink.delete_link(ifindex);
      return std::move(*error);
    }
    return ifindex;
  }
}

Result<bool> restore_fou_device(int ifindex, uint32_t address, uint32_t mtu) {
  auto opened = Netlink::open();
  if (!opened.ok()) return std::move(opened.error());
  Netlink& netlink = opened.value();
  auto link = netlink.link(ifindex);
  if (!link.ok()) return std::move(link.error());
  // A checksum left to the external interface stays unfinished where that is virtual, and peers of
  // user space get it so.
  auto checksums = switch_off(ifindex, ETHTOOL_GTXCSUM, ETHTOOL_STXCSUM, "ETHTOOL_STXCSUM");
  if (!checksums.ok()) return std::move(checksums.error());
  // Packets of several hosts must not become one in front of the check of their source.
  auto receive = switch_off(ifindex, ETHTOOL_GGRO, ETHTOOL_SGRO, "ETHTOOL_SGRO");
  if (!receive.ok()) return std::move(receive.error());
  auto added = netlink.add_address(ifindex, address);
  if (!added.ok()) return std::move(added.error());
  const bool differs = !link.value().up || link.value().mtu > mtu;
  if (differs) {
    if (auto error = netlink.set_up(ifindex, mtu, kQueuePackets)) return std::move(*error);
  }
  return checksums.value() || receive.value() || added.value() || differs;
}

Result<int> find_fou_device(const FouEnd& end) {
  auto listed = list_own();
  if (!listed.ok()) return std::move(listed.error());
  for (const AliasedLink& link : listed.value())
    if (link.alias == alias_of(end)) return link.ifindex;
  return 0;
}

Result<bool> open_fou_port(const FouEnd& end) {
  auto present = has_fou_port(end);
  if (!present.ok()) return std::move(present.error());
  if (present.value()) return false;
  if (auto refused = fou_port_request(FOU_CMD_ADD, end)) return std::move(*refused);
  return true;
}

Result<bool> put_fou_overlay(Subnet overlay) {
  auto netlink = Netlink::open();
  if (!netlink.ok()) return std::move(netlink.error());
  return netlink.value().put_unreachable_route(overlay, kOverlayProtocol);
}

Status remove_fou(const FouEnd& end) {
  auto listed = list_own();
  if (!listed.ok()) return std::move(listed.error());
  auto opened = Netlink::open();
  if (!opened.ok()) return std::move(opened.error());
  Netlink& netlink = opened.value();
  Status refused;
  bool others = false;
  for (const AliasedLink& link : listed.value()) {
    if (link.alias != alias_of(end))
      others = true;
    else if (auto error = netlink.delete_link(link.ifindex))
      refused = std::move(error);
  }
  if (auto present = has_fou_port(end); present.ok() && present.value()) {
    if (auto error = fou_port_request(FOU_CMD_DEL, end)) refused = std::move(error);
  }
  // Another tunnel puts its own back where it is the same; where it is not, it would be missed.
  if (!others) (void)netlink.delete_unreachable_routes(kOverlayProtocol);
  return refused;
}

Result<FouStatistics> read_fou_statistics(int ifindex) {
  FouStatistics out;
  Question<ifinfomsg> question(RTM_GETLINK, 0);
  question.family.ifi_index = ifindex;
  auto refused = ask(question, "RTM_GETLINK", [&](nlmsghdr* message) {
    each_attribute<ifinfomsg>(message, [&](uint16_t type, const void* data, size_t bytes) {
      if (type != IFLA_STATS64) return;
      rtnl_link_stats64 stats{};
      // Later kernels append to it.
      std::memcpy(&stats, data, std::min(sizeof(stats), bytes));
      out = {stats.rx_packets, stats.rx_bytes, stats.tx_packets, stats.tx_bytes};
    });
  });
  if (refused) return std::move(*refused);
  return out;
}

}  // namespace flannelette
