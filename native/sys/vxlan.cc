#include "sys/vxlan.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <net/if.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <utility>

#include "sys/address.h"
#include "sys/interfaces.h"
#include "sys/netlink.h"
#include "sys/netlink_dump.h"

namespace flannelette {

namespace {

constexpr uint32_t kQueuePackets = 1000;

struct Neighbour {
  uint32_t address = 0;
  MacAddress mac{};
  bool permanent = false;
};

// Entries of the neighbour table (AF_INET) or of the forwarding table (AF_BRIDGE).
Result<std::vector<Neighbour>> list_neighbours(uint8_t family, int ifindex) {
  return list_again([&]() -> Result<std::vector<Neighbour>> {
    std::vector<Neighbour> out;
    Question<ndmsg> question(RTM_GETNEIGH, NLM_F_DUMP);
    question.family.ndm_family = family;
    question.family.ndm_ifindex = ifindex;
    const auto take = [&](nlmsghdr* message) {
      if (message->nlmsg_type != RTM_NEWNEIGH) return;
      const auto* head = family_of<ndmsg>(*message);
      // Not every kernel filters by what was asked for.
      if (head == nullptr || head->ndm_family != family || head->ndm_ifindex != ifindex) return;
      Neighbour found;
      found.permanent = (head->ndm_state & NUD_PERMANENT) != 0;
      each_attribute<ndmsg>(message, [&](uint16_t type, const void* data, size_t bytes) {
        if (type == NDA_DST) found.address = ntohl(number_of(data, bytes));
        if (type == NDA_LLADDR)
          std::memcpy(found.mac.data(), data, std::min(bytes, found.mac.size()));
      });
      out.push_back(found);
    };
    if (auto refused = ask(question, "RTM_GETNEIGH", take)) return std::move(*refused);
    return out;
  });
}

// What of a device cannot be changed once it is there, and its MAC address.
struct Fixed {
  std::string kind;
  uint32_t vni = 0;
  uint32_t underlay = 0;
  uint32_t local = 0;
  uint16_t port = 0;  // in network order
  bool learning = false;
  bool gbp = false;
  bool external = false;  // its tunnels are given by the routes
  MacAddress mac{};

  bool operator==(const Fixed&) const = default;
};

Fixed fixed_of(const VxlanSpec& spec) {
  return {"vxlan",
          spec.vni,
          static_cast<uint32_t>(spec.underlay),
          spec.local,
          htons(spec.port),
          spec.learning,
          spec.gbp,
          false,
          spec.mac};
}

void read_vxlan(uint16_t type, const void* data, size_t bytes, Fixed& out) {
  const auto is_set = [&] { return bytes > 0 && *static_cast<const uint8_t*>(data) != 0; };
  if (type == IFLA_VXLAN_ID) out.vni = number_of(data, bytes);
  if (type == IFLA_VXLAN_LINK) out.underlay = number_of(data, bytes);
  if (type == IFLA_VXLAN_LOCAL) out.local = ntohl(number_of(data, bytes));
  if (type == IFLA_VXLAN_PORT) std::memcpy(&out.port, data, std::min(bytes, sizeof(out.port)));
  if (type == IFLA_VXLAN_LEARNING) out.learning = is_set();
  if (type == IFLA_VXLAN_COLLECT_METADATA) out.external = is_set();
  if (type == IFLA_VXLAN_GBP) out.gbp = true;
}

// Packets go on through a device that is as wanted already, made by flanneld or by a run before;
// its other addresses would be those of another lease.
bool is_wanted(int ifindex, const VxlanSpec& spec) {
  Fixed found;
  const auto take = [&](nlmsghdr* message) {
    if (message->nlmsg_type != RTM_NEWLINK) return;
    each_attribute<ifinfomsg>(message, [&](uint16_t type, const void* data, size_t bytes) {
      if (type == IFLA_ADDRESS)
        std::memcpy(found.mac.data(), data, std::min(bytes, found.mac.size()));
      if (type != IFLA_LINKINFO) return;
      each_nested(data, bytes, [&](uint16_t part, const void* inner, size_t size) {
        if (part == IFLA_INFO_KIND) found.kind = text_of(inner, size);
        if (part != IFLA_INFO_DATA) return;
        each_nested(inner, size, [&](uint16_t which, const void* value, size_t length) {
          read_vxlan(which, value, length, found);
        });
      });
    });
  };
  Question<ifinfomsg> question(RTM_GETLINK, 0);
  question.family.ifi_index = ifindex;
  if (ask(question, "RTM_GETLINK", take) || !(found == fixed_of(spec))) return false;
  auto interfaces = list_interfaces();
  if (!interfaces.ok()) return false;
  for (const Interface& one : interfaces.value()) {
    if (one.index != static_cast<uint32_t>(ifindex)) continue;
    return std::all_of(one.addresses.begin(), one.addresses.end(), [&](const auto& address) {
      return address.address == spec.address && address.prefix == 32;
    });
  }
  return false;
}

}  // namespace

Result<int> make_vxlan(const VxlanSpec& spec) {
  auto opened = Netlink::open();
  if (!opened.ok()) return std::move(opened.error());
  Netlink& netlink = opened.value();
  const auto set_up = [&](int ifindex) -> Status {
    auto added = netlink.add_address(ifindex, spec.address);
    if (!added.ok()) return std::move(added.error());
    return netlink.set_up(ifindex, spec.mtu, kQueuePackets);
  };
  if (const auto left = static_cast<int>(::if_nametoindex(spec.name.c_str())); left != 0) {
    if (is_wanted(left, spec) && !set_up(left)) return left;
    if (auto error = netlink.delete_link(left)) return std::move(*error);
  }
  const auto attributes = [&](NetlinkMessage& message) {
    const uint16_t port = htons(spec.port);
    const uint8_t learning = spec.learning ? 1 : 0;
    message.add_u32(IFLA_VXLAN_ID, spec.vni);
    message.add_u32(IFLA_VXLAN_LINK, static_cast<uint32_t>(spec.underlay));
    message.add_u32(IFLA_VXLAN_LOCAL, htonl(spec.local));
    message.add(IFLA_VXLAN_PORT, &port, sizeof(port));
    message.add(IFLA_VXLAN_LEARNING, &learning, sizeof(learning));
    if (spec.gbp) message.add(IFLA_VXLAN_GBP, nullptr, 0);
  };
  if (auto error = netlink.add_link(spec.name, "vxlan", attributes)) return std::move(*error);
  const int ifindex = static_cast<int>(::if_nametoindex(spec.name.c_str()));
  auto refused = netlink.set_mac(ifindex, spec.mac);
  if (!refused) refused = set_up(ifindex);
  if (!refused) return ifindex;
  (void)netlink.delete_link(ifindex);
  return std::move(*refused);
}

Status delete_device(int ifindex) {
  auto netlink = Netlink::open();
  if (!netlink.ok()) return std::move(netlink.error());
  return netlink.value().delete_link(ifindex);
}

Status put_vtep(int ifindex, const Vtep& vtep) {
  auto netlink = Netlink::open();
  if (!netlink.ok()) return std::move(netlink.error());
  if (auto error = netlink.value().put_forwarding_entry(ifindex, vtep.mac, vtep.host)) return error;
  return netlink.value().put_neighbour(ifindex, vtep.address, vtep.mac);
}

Status delete_vtep(int ifindex, const Vtep& vtep) {
  auto netlink = Netlink::open();
  if (!netlink.ok()) return std::move(netlink.error());
  if (auto error = netlink.value().delete_neighbour(ifindex, vtep.address)) return error;
  return netlink.value().delete_forwarding_entry(ifindex, vtep.mac, vtep.host);
}

Result<std::vector<Vtep>> list_vteps(int ifindex) {
  auto neighbours = list_neighbours(AF_INET, ifindex);
  if (!neighbours.ok()) return std::move(neighbours.error());
  auto entries = list_neighbours(AF_BRIDGE, ifindex);
  if (!entries.ok()) return std::move(entries.error());
  std::map<MacAddress, uint32_t> hosts;
  for (const Neighbour& entry : entries.value())
    if (entry.permanent && entry.address != 0) hosts[entry.mac] = entry.address;
  std::vector<Vtep> out;
  for (const Neighbour& neighbour : neighbours.value()) {
    const auto host = hosts.find(neighbour.mac);
    if (neighbour.permanent && host != hosts.end())
      out.push_back({neighbour.address, neighbour.mac, host->second});
  }
  return out;
}

}  // namespace flannelette
