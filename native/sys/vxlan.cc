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

}  // namespace

Result<int> make_vxlan(const VxlanSpec& spec) {
  auto opened = Netlink::open();
  if (!opened.ok()) return std::move(opened.error());
  Netlink& netlink = opened.value();
  if (const unsigned left = ::if_nametoindex(spec.name.c_str()); left != 0) {
    if (auto error = netlink.delete_link(static_cast<int>(left))) return std::move(*error);
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
  const auto set_up = [&]() -> Status {
    if (auto error = netlink.set_mac(ifindex, spec.mac)) return error;
    auto added = netlink.add_address(ifindex, spec.address);
    if (!added.ok()) return std::move(added.error());
    return netlink.set_up(ifindex, spec.mtu, kQueuePackets);
  };
  if (auto error = set_up()) {
    (void)netlink.delete_link(ifindex);
    return std::move(*error);
  }
  return ifindex;
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
