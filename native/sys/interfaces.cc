#include "sys/interfaces.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <net/if.h>

#include <cstring>
#include <optional>
#include <utility>

#include "sys/mac_address.h"
#include "sys/netlink_dump.h"

namespace flannelette {

namespace {

void add_link(nlmsghdr* message, std::vector<Interface>& out) {
  if (message->nlmsg_type != RTM_NEWLINK) return;
  const auto* link = family_of<ifinfomsg>(*message);
  if (link == nullptr) return;
  Interface& added = out.emplace_back();
  added.index = static_cast<uint32_t>(link->ifi_index);
  added.up = (link->ifi_flags & IFF_UP) != 0;
  added.loopback = (link->ifi_flags & IFF_LOOPBACK) != 0;
  each_attribute<ifinfomsg>(message, [&](uint16_t type, const void* data, size_t bytes) {
    if (type == IFLA_IFNAME) added.name = text_of(data, bytes);
    if (type == IFLA_MTU) added.mtu = number_of(data, bytes);
    if (MacAddress mac{}; type == IFLA_ADDRESS && bytes == mac.size()) {
      std::memcpy(mac.data(), data, bytes);
      added.mac = number_of_mac(mac);
    }
  });
}

void add_address(nlmsghdr* message, std::vector<Interface>& out) {
  if (message->nlmsg_type != RTM_NEWADDR) return;
  const auto* head = family_of<ifaddrmsg>(*message);
  if (head == nullptr) return;
  uint32_t flags = head->ifa_flags;
  std::optional<uint32_t> local;
  std::optional<uint32_t> either;  // this end's, or the other's where there is IFA_LOCAL
  each_attribute<ifaddrmsg>(message, [&](uint16_t type, const void* data, size_t bytes) {
    if (type == IFA_LOCAL) local = ntohl(number_of(data, bytes));
    if (type == IFA_ADDRESS) either = ntohl(number_of(data, bytes));
    if (type == IFA_FLAGS) flags = number_of(data, bytes);  // 32 bits of them, since 3.14
  });
  if (!local.has_value()) local = either;
  if (!local.has_value()) return;
  for (Interface& interface : out)
    if (interface.index == head->ifa_index)
      interface.addresses.push_back({*local, head->ifa_prefixlen, (flags & IFA_F_PERMANENT) != 0,
                                     (flags & IFA_F_DEPRECATED) != 0});
}

Result<std::vector<Interface>> list_once() {
  std::vector<Interface> out;
  Question<ifinfomsg> links(RTM_GETLINK, NLM_F_DUMP);
  links.add(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  if (auto refused = ask(links, "RTM_GETLINK", [&](nlmsghdr* message) { add_link(message, out); }))
    return std::move(*refused);
  Question<ifaddrmsg> addresses(RTM_GETADDR, NLM_F_DUMP);
  addresses.family.ifa_family = AF_INET;
  if (auto refused =
          ask(addresses, "RTM_GETADDR", [&](nlmsghdr* message) { add_address(message, out); }))
    return std::move(*refused);
  return out;
}

}  // namespace

Result<std::vector<Interface>> list_interfaces() { return list_again(list_once); }

}  // namespace flannelette
