#include "sys/kernel_routes.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>

#include <utility>

#include "sys/netlink_dump.h"

namespace flannelette {

namespace {

void add_route(nlmsghdr* message, std::vector<KernelRoute>& out) {
  if (message->nlmsg_type != RTM_NEWROUTE) return;
  const auto* head = family_of<rtmsg>(*message);
  if (head == nullptr) return;
  // Clones of the cache (path MTU exceptions) are no routes of a table.
  if (head->rtm_family != AF_INET || head->rtm_tos != 0 || (head->rtm_flags & RTM_F_CLONED) != 0)
    return;
  uint32_t table = head->rtm_table;
  KernelRoute route;
  route.destination.prefix = head->rtm_dst_len;
  route.type = head->rtm_type;
  route.protocol = head->rtm_protocol;
  each_attribute<rtmsg>(message, [&](uint16_t type, const void* data, size_t bytes) {
    if (type == RTA_TABLE) table = number_of(data, bytes);
    if (type == RTA_DST) route.destination.network = ntohl(number_of(data, bytes));
    if (type == RTA_GATEWAY) route.gateway = ntohl(number_of(data, bytes));
    if (type == RTA_OIF) route.ifindex = static_cast<int>(number_of(data, bytes));
    if (type == RTA_PRIORITY) route.metric = number_of(data, bytes);
  });
  // Not every kernel filters by the table that was asked for.
  if (table == RT_TABLE_MAIN) out.push_back(route);
}

Result<std::vector<KernelRoute>> list_once() {
  std::vector<KernelRoute> out;
  Question<rtmsg> question(RTM_GETROUTE, NLM_F_DUMP);
  question.family.rtm_family = AF_INET;
  question.family.rtm_table = RT_TABLE_MAIN;
  if (auto refused =
          ask(question, "RTM_GETROUTE", [&](nlmsghdr* message) { add_route(message, out); }))
    return std::move(*refused);
  return out;
}

}  // namespace

Result<std::vector<KernelRoute>> list_kernel_routes() { return list_again(list_once); }

}  // namespace flannelette
