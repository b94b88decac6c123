#include "sys/kernel_routes.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>

#include <cstring>
#include <utility>

#include "sys/netlink_dump.h"

namespace flannelette {

namespace {

struct Listed : KernelRoute {
  uint32_t first_gateway = 0;  // of several next hops
  int first_ifindex = 0;
  uint8_t tos = 0;
};

void read_first_hop(const void* data, size_t bytes, Listed& out) {
  rtnexthop hop{};
  if (bytes < sizeof(hop)) return;
  std::memcpy(&hop, data, sizeof(hop));
  out.first_ifindex = hop.rtnh_ifindex;
  if (hop.rtnh_len < sizeof(hop) || hop.rtnh_len > bytes) return;
  each_nested(static_cast<const uint8_t*>(data) + sizeof(hop), hop.rtnh_len - sizeof(hop),
              [&](uint16_t type, const void* value, size_t size) {
                if (type == RTA_GATEWAY) out.first_gateway = ntohl(number_of(value, size));
              });
}

template <typename Take>
void read_route(nlmsghdr* message, Take&& take) {
  if (message->nlmsg_type != RTM_NEWROUTE) return;
  const auto* head = family_of<rtmsg>(*message);
  if (head == nullptr) return;
  // Clones of the cache (path MTU exceptions) are no routes of a table.
  if (head->rtm_family != AF_INET || (head->rtm_flags & RTM_F_CLONED) != 0) return;
  Listed route;
  route.table = head->rtm_table;
  route.tos = head->rtm_tos;
  route.destination.prefix = head->rtm_dst_len;
  route.type = head->rtm_type;
  route.protocol = head->rtm_protocol;
  each_attribute<rtmsg>(message, [&](uint16_t type, const void* data, size_t bytes) {
    if (type == RTA_TABLE) route.table = number_of(data, bytes);
    if (type == RTA_DST) route.destination.network = ntohl(number_of(data, bytes));
    if (type == RTA_GATEWAY) route.gateway = ntohl(number_of(data, bytes));
    if (type == RTA_OIF) route.ifindex = static_cast<int>(number_of(data, bytes));
    if (type == RTA_PRIORITY) route.metric = number_of(data, bytes);
    if (type == RTA_MULTIPATH) read_first_hop(data, bytes, route);
  });
  take(route);
}

// `table` 0: every one.
template <typename Take>
Result<std::vector<KernelRoute>> list_once(uint8_t table, Take&& take) {
  std::vector<KernelRoute> out;
  Question<rtmsg> question(RTM_GETROUTE, NLM_F_DUMP);
  question.family.rtm_family = AF_INET;
  question.family.rtm_table = table;
  const auto read = [&](nlmsghdr* message) {
    read_route(message, [&](const Listed& route) { take(route, out); });
  };
  if (auto refused = ask(question, "RTM_GETROUTE", read)) return std::move(*refused);
  return out;
}

}  // namespace

Result<std::vector<KernelRoute>> list_kernel_routes() {
  return list_again([] {
    return list_once(RT_TABLE_MAIN, [](const Listed& route, std::vector<KernelRoute>& out) {
      // Not every kernel filters by the table that was asked for.
      if (route.table == RT_TABLE_MAIN && route.tos == 0) out.push_back(route);
    });
  });
}

Result<std::vector<KernelRoute>> list_kernel_routes_within(Subnet subnet) {
  return list_again([subnet] {
    return list_once(RT_TABLE_UNSPEC, [&](const Listed& route, std::vector<KernelRoute>& out) {
      if (route.destination.prefix < subnet.prefix || !subnet.contains(route.destination.network))
        return;
      KernelRoute found = route;
      if (route.first_ifindex != 0) {
        found.ifindex = route.first_ifindex;
        found.gateway = route.first_gateway;
      }
      out.push_back(found);
    });
  });
}

}  // namespace flannelette
