#include "sys/netlink.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "sys/address.h"
#include "sys/kernel_routes.h"
#include "sys/netlink_dump.h"
#include "sys/netlink_message.h"
#include "sys/retry.h"

namespace flannelette {

namespace {

// The kernel answers before sendto returns; an answer that is not there then was lost.
constexpr timeval kReplyTime = {2, 0};

void read_link(nlmsghdr& message, Link& out) {
  const auto* body = family_of<ifinfomsg>(message);
  if (body == nullptr) return;
  out.up = (body->ifi_flags & IFF_UP) != 0;
  out.carrier = (body->ifi_flags & IFF_LOWER_UP) != 0;
  each_attribute<ifinfomsg>(&message, [&](uint16_t type, const void* data, size_t bytes) {
    if (type == IFLA_IFNAME) out.name = text_of(data, bytes);
    if (type == IFLA_MASTER) out.master = static_cast<int>(number_of(data, bytes));
    if (type == IFLA_MTU) out.mtu = number_of(data, bytes);
    if (type == IFLA_TXQLEN) out.queue_packets = number_of(data, bytes);
    if (type == IFLA_STATS64) {
      rtnl_link_stats64 stats{};
      // Later kernels append to it.
      std::memcpy(&stats, data, std::min(sizeof(stats), bytes));
      out.queue_drops = stats.tx_dropped;
    }
  });
}

void read_lookup(nlmsghdr& message, RouteLookup& out) {
  const auto* body = family_of<rtmsg>(message);
  if (body == nullptr) return;
  out.type = body->rtm_type;
  each_attribute<rtmsg>(&message, [&](uint16_t type, const void* data, size_t bytes) {
    if (type == RTA_OIF) out.ifindex = static_cast<int>(number_of(data, bytes));
  });
}

// Which error of a look-up is an answer (net/ipv4/fib_semantics.c, fib_props), and none to it.
bool is_lookup_answer(int number) {
  return number == ENETUNREACH || number == EHOSTUNREACH || number == EACCES || number == EINVAL;
}

// A request about a route to `destination` in the main table; what it leads to is to be added.
NetlinkMessage route_to(uint16_t type, uint16_t flags, Subnet destination) {
  NetlinkMessage message(type, flags);
  auto* body = message.family<rtmsg>();
  body->rtm_family = AF_INET;
  body->rtm_dst_len = static_cast<uint8_t>(destination.prefix);
  body->rtm_table = RT_TABLE_MAIN;
  body->rtm_protocol = RTPROT_BOOT;
  message.add_u32(RTA_DST, htonl(destination.network));
  return message;
}

rtmsg* body_of(NetlinkMessage& message) {
  return static_cast<rtmsg*>(NLMSG_DATA(message.header()));
}

// The same of the one through the device.
NetlinkMessage route_message(uint16_t type, uint16_t flags, int ifindex, Subnet destination) {
  NetlinkMessage message = route_to(type, flags, destination);
  body_of(message)->rtm_scope = RT_SCOPE_LINK;
  body_of(message)->rtm_type = RTN_UNICAST;
  message.add_u32(RTA_OIF, static_cast<uint32_t>(ifindex));
  return message;
}

NetlinkMessage gateway_message(uint16_t type, uint16_t flags, int ifindex, Subnet destination,
                               uint32_t gateway, bool onlink) {
  NetlinkMessage message = route_message(type, flags, ifindex, destination);
  body_of(message)->rtm_scope = RT_SCOPE_UNIVERSE;
  if (onlink) body_of(message)->rtm_flags = RTNH_F_ONLINK;
  message.add_u32(RTA_GATEWAY, htonl(gateway));
  return message;
}

NetlinkMessage unreachable_message(uint16_t type, uint16_t flags, Subnet destination,
                                   uint8_t protocol) {
  NetlinkMessage message = route_to(type, flags, destination);
  rtmsg* body = body_of(message);
  body->rtm_protocol = protocol;
  body->rtm_scope = RT_SCOPE_UNIVERSE;
  body->rtm_type = RTN_UNREACHABLE;
  return message;
}

// A permanent entry of the neighbour table (AF_INET) or of the device's own forwarding table. With
// `mac`, deleting is about the entry that has both.
NetlinkMessage neighbour_message(uint16_t type, uint8_t family, int ifindex, uint32_t address,
                                 const MacAddress* mac) {
  const bool put = type == RTM_NEWNEIGH;
  NetlinkMessage message(type, put ? NLM_F_CREATE | NLM_F_REPLACE : 0);
  auto* body = message.family<ndmsg>();
  body->ndm_family = family;
  body->ndm_ifindex = ifindex;
  body->ndm_state = NUD_PERMANENT;
  body->ndm_flags = family == AF_BRIDGE ? NTF_SELF : 0;
  message.add_u32(NDA_DST, htonl(address));
  if (mac != nullptr) message.add(NDA_LLADDR, mac->data(), mac->size());
  return message;
}

// Priorities for the filters of all daemons on one device; others choose 1, or 49152 and up.
constexpr uint32_t kFirstPriority = 8285;
constexpr uint32_t kPriorities = 16;

void clsact_of(NetlinkMessage& message, int ifindex) {
  auto* at = message.family<tcmsg>();
  at->tcm_ifindex = ifindex;
  at->tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
  at->tcm_parent = TC_H_CLSACT;
  message.add(TCA_KIND, "clsact", sizeof("clsact"));
}

uint32_t parent_of(ProgramPoint point) {
  return TC_H_MAKE(TC_H_CLSACT,
                   point == ProgramPoint::kIngress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
}

NetlinkMessage filter_message(uint16_t type, uint16_t flags, int ifindex, ProgramPoint point,
                              uint32_t priority) {
  NetlinkMessage message(type, flags);
  auto* at = message.family<tcmsg>();
  at->tcm_ifindex = ifindex;
  at->tcm_parent = parent_of(point);
  at->tcm_handle = 1;
  at->tcm_info = TC_H_MAKE(priority << 16, htons(ETH_P_ALL));
  message.add(TCA_KIND, "bpf", sizeof("bpf"));
  return message;
}

// True also when that cannot be found out.
bool has_filters(int ifindex, ProgramPoint point) {
  Question<tcmsg> question(RTM_GETTFILTER, NLM_F_DUMP);
  question.family.tcm_ifindex = ifindex;
  question.family.tcm_parent = parent_of(point);
  bool found = false;
  const Status refused = ask(question, "RTM_GETTFILTER", [&](nlmsghdr* reply) {
    if (reply->nlmsg_type == RTM_NEWTFILTER) found = true;
  });
  return found || refused;
}

std::string format_subnet(Subnet subnet) {
  return format_address(subnet.network) + "/" + std::to_string(subnet.prefix);
}

std::string format_via(Subnet destination, uint32_t gateway) {
  return format_subnet(destination) + " via " + format_address(gateway);
}

}  // namespace

Result<Netlink> Netlink::open() {
  OwnedFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd.valid()) return Error{errno, "socket NETLINK_ROUTE", ""};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    (void)::setsockopt(fd.get(), SOL_SOCKET, option, &kReplyTime, sizeof(kReplyTime));
  return Netlink(std::move(fd));
}

Result<bool> Netlink::add_address(int ifindex, uint32_t address) {
  NetlinkMessage message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  auto* body = message.family<ifaddrmsg>();
  body->ifa_family = AF_INET;
  body->ifa_prefixlen = 32;
  body->ifa_index = static_cast<uint32_t>(ifindex);
  message.add_u32(IFA_LOCAL, htonl(address));
  message.add_u32(IFA_ADDRESS, htonl(address));
  auto error = request(message.header(), "RTM_NEWADDR", format_address(address) + "/32", 0);
  if (!error) return true;
  if (error->number == EEXIST) return false;
  return std::move(*error);
}

Status Netlink::set_up(int ifindex, uint32_t mtu, uint32_t queue_length) {
  {
    NetlinkMessage message(RTM_SETLINK, 0);
    auto* body = message.family<ifinfomsg>();
    body->ifi_index = ifindex;
    rtattr* spec = message.add(IFLA_AF_SPEC, nullptr, 0);
    rtattr* inet6 = message.add(AF_INET6, nullptr, 0);
    const uint8_t mode = IN6_ADDR_GEN_MODE_NONE;
    message.add(IFLA_INET6_ADDR_GEN_MODE, &mode, sizeof(mode));
    message.close(inet6);
    message.close(spec);
    // Kernels before 3.17, or without IPv6, refuse; the tunnel drops IPv6 packets anyway.
    (void)request(message.header(), "IFLA_INET6_ADDR_GEN_MODE", "", 0);
  }
  NetlinkMessage message(RTM_SETLINK, 0);
  auto* body = message.family<ifinfomsg>();
  body->ifi_index = ifindex;
  body->ifi_flags = IFF_UP;
  body->ifi_change = IFF_UP;
  message.add_u32(IFLA_MTU, mtu);
  message.add_u32(IFLA_TXQLEN, queue_length);
  return request(message.header(), "RTM_SETLINK", "mtu " + std::to_string(mtu), 0);
}

Status Netlink::set_mtu(int ifindex, uint32_t mtu) {
  NetlinkMessage message(RTM_SETLINK, 0);
  message.family<ifinfomsg>()->ifi_index = ifindex;
  message.add_u32(IFLA_MTU, mtu);
  return request(message.header(), "RTM_SETLINK", "mtu " + std::to_string(mtu), 0);
}

Status Netlink::set_carrier(int ifindex) {
  NetlinkMessage message(RTM_SETLINK, 0);
  message.family<ifinfomsg>()->ifi_index = ifindex;
  const uint8_t on = 1;
  message.add(IFLA_CARRIER, &on, sizeof(on));
  return request(message.header(), "RTM_SETLINK", "carrier", 0);
}

Status Netlink::add_link(const std::string& name, const char* kind, const LinkData& data) {
  NetlinkMessage message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL);
  message.family<ifinfomsg>();
  message.add(IFLA_IFNAME, name.c_str(), name.size() + 1);
  rtattr* info = message.add(IFLA_LINKINFO, nullptr, 0);
  message.add(IFLA_INFO_KIND, kind, std::strlen(kind));
  rtattr* nest = message.add(IFLA_INFO_DATA, nullptr, 0);
  data(message);
  message.close(nest);
  message.close(info);
  return request(message.header(), "RTM_NEWLINK", name + " type " + kind, 0);
}

Status Netlink::delete_link(int ifindex) {
  NetlinkMessage message(RTM_DELLINK, 0);
  message.family<ifinfomsg>()->ifi_index = ifindex;
  return request(message.header(), "RTM_DELLINK", "", ENODEV);
}

Status Netlink::rename_link(int ifindex, const std::string& name) {
  NetlinkMessage message(RTM_SETLINK, 0);
  message.family<ifinfomsg>()->ifi_index = ifindex;
  message.add(IFLA_IFNAME, name.c_str(), name.size() + 1);
  return request(message.header(), "IFLA_IFNAME", name, 0);
}

Status Netlink::set_alias(int ifindex, const std::string& alias) {
  NetlinkMessage message(RTM_SETLINK, 0);
  message.family<ifinfomsg>()->ifi_index = ifindex;
  message.add(IFLA_IFALIAS, alias.data(), alias.size());
  return request(message.header(), "IFLA_IFALIAS", alias, 0);
}

Status Netlink::set_mac(int ifindex, const MacAddress& mac) {
  NetlinkMessage message(RTM_SETLINK, 0);
  message.family<ifinfomsg>()->ifi_index = ifindex;
  message.add(IFLA_ADDRESS, mac.data(), mac.size());
  return request(message.header(), "RTM_SETLINK", "address", 0);
}

Status Netlink::put_neighbour(int ifindex, uint32_t address, const MacAddress& mac) {
  NetlinkMessage message = neighbour_message(RTM_NEWNEIGH, AF_INET, ifindex, address, &mac);
  return request(message.header(), "RTM_NEWNEIGH", format_address(address), 0);
}

Status Netlink::delete_neighbour(int ifindex, uint32_t address) {
  NetlinkMessage message = neighbour_message(RTM_DELNEIGH, AF_INET, ifindex, address, nullptr);
  return request(message.header(), "RTM_DELNEIGH", format_address(address), ENOENT);
}

Status Netlink::put_forwarding_entry(int ifindex, const MacAddress& mac, uint32_t host) {
  NetlinkMessage message = neighbour_message(RTM_NEWNEIGH, AF_BRIDGE, ifindex, host, &mac);
  return request(message.header(), "RTM_NEWNEIGH", "fdb " + format_address(host), 0);
}

Status Netlink::delete_forwarding_entry(int ifindex, const MacAddress& mac, uint32_t host) {
  NetlinkMessage message = neighbour_message(RTM_DELNEIGH, AF_BRIDGE, ifindex, host, &mac);
  return request(message.header(), "RTM_DELNEIGH", "fdb " + format_address(host), ENOENT);
}

Status Netlink::add_program(int ifindex, ProgramPoint point, int program_fd,
                            const std::string& name) {
  NetlinkMessage qdisc(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL);
  clsact_of(qdisc, ifindex);
  if (auto error = request(qdisc.header(), "RTM_NEWQDISC", "clsact", EEXIST)) return error;
  Status refused = Error{EEXIST, "RTM_NEWTFILTER", name};
  for (uint32_t i = 0; i < kPriorities && refused; ++i) {
    const uint32_t priority = kFirstPriority + i;
    if (program_at(ifindex, point, priority) == name)
      (void)delete_program_at(ifindex, point, priority);
    NetlinkMessage filter =
        filter_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, ifindex, point, priority);
    rtattr* options = filter.add(TCA_OPTIONS, nullptr, 0);
    filter.add_u32(TCA_BPF_FD, static_cast<uint32_t>(program_fd));
    filter.add(TCA_BPF_NAME, name.c_str(), name.size() + 1);
    filter.add_u32(TCA_BPF_FLAGS, TCA_BPF_FLAG_ACT_DIRECT);
    filter.close(options);
    refused = request(filter.header(), "RTM_NEWTFILTER", name, 0);
    if (refused && refused->number != EEXIST) break;
  }
  return refused;
}

Status Netlink::delete_program(int ifindex, ProgramPoint point, const std::string& name) {
  bool deleted = false;
  for (uint32_t i = 0; i < kPriorities; ++i) {
    if (program_at(ifindex, point, kFirstPriority + i) != name) continue;
    if (auto error = delete_program_at(ifindex, point, kFirstPriority + i)) return error;
    deleted = true;
  }
  if (!deleted || has_filters(ifindex, ProgramPoint::kIngress) ||
      has_filters(ifindex, ProgramPoint::kEgress))
    return std::nullopt;
  NetlinkMessage qdisc(RTM_DELQDISC, 0);
  clsact_of(qdisc, ifindex);
  return request(qdisc.header(), "RTM_DELQDISC", "clsact", ENOENT);
}

std::string Netlink::program_at(int ifindex, ProgramPoint point, uint32_t priority) {
  NetlinkMessage message = filter_message(RTM_GETTFILTER, 0, ifindex, point, priority);
  std::string name;
  (void)request(message.header(), "RTM_GETTFILTER", "", ENOENT, [&](nlmsghdr& reply) {
    each_attribute<tcmsg>(&reply, [&](uint16_t type, const void* data, size_t bytes) {
      if (type != TCA_OPTIONS) return;
      each_nested(data, bytes, [&](uint16_t option, const void* text, size_t length) {
        if (option == TCA_BPF_NAME) name = text_of(text, length);
      });
    });
  });
  return name;
}

Status Netlink::delete_program_at(int ifindex, ProgramPoint point, uint32_t priority) {
  NetlinkMessage message = filter_message(RTM_DELTFILTER, 0, ifindex, point, priority);
  return request(message.header(), "RTM_DELTFILTER", "", ENOENT);
}

Result<Link> Netlink::link(int ifindex) {
  NetlinkMessage message(RTM_GETLINK, 0);
  message.family<ifinfomsg>()->ifi_index = ifindex;
  Link link;
  if (auto error = request(message.header(), "RTM_GETLINK", "", 0,
                           [&](nlmsghdr& reply) { read_link(reply, link); }))
    return std::move(*error);
  return link;
}

Result<bool> Netlink::add_route(int ifindex, Subnet destination) {
  // NLM_F_EXCL makes the kernel compare: a route that is there costs no change and no notification.
  NetlinkMessage message =
      route_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, ifindex, destination);
  auto error = request(message.header(), "RTM_NEWROUTE", format_subnet(destination), 0);
  if (!error) return true;
  if (error->number == EEXIST) return false;
  return std::move(*error);
}

Result<RouteChange> Netlink::put_route(int ifindex, Subnet destination) {
  // NLM_F_ECHO: the requester gets the notification of the change, and none when nothing changes.
  constexpr uint16_t kFlags = NLM_F_CREATE | NLM_F_REPLACE | NLM_F_ECHO;
  for (bool again = false;; again = true) {
    NetlinkMessage message = route_message(RTM_NEWROUTE, kFlags, ifindex, destination);
    auto change = RouteChange::kNone;
    auto error = request(message.header(), "RTM_NEWROUTE", format_subnet(destination), 0,
                         [&](nlmsghdr& notification) {
                           change = (notification.nlmsg_flags & NLM_F_REPLACE) != 0
                                        ? RouteChange::kReplaced
                                        : RouteChange::kAdded;
                         });
    if (!error) return again ? RouteChange::kReplaced : change;
    // It is there, behind another that was put in front of it, and stays behind while it is there.
    if (again || error->number != EEXIST) return std::move(*error);
    if (auto refused = delete_route(ifindex, destination)) return std::move(*refused);
  }
}

Result<bool> Netlink::put_unreachable_route(Subnet destination, uint8_t protocol) {
  NetlinkMessage message =
      unreachable_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, destination, protocol);
  auto error = request(message.header(), "RTM_NEWROUTE", format_subnet(destination), 0);
  if (!error) return true;
  if (error->number == EEXIST) return false;
  return std::move(*error);
}

Status Netlink::delete_unreachable_routes(uint8_t protocol) {
  auto listed = list_kernel_routes();
  if (!listed.ok()) return std::move(listed.error());
  for (const KernelRoute& route : listed.value()) {
    if (route.type != RTN_UNREACHABLE || route.protocol != protocol) continue;
    NetlinkMessage message = unreachable_message(RTM_DELROUTE, 0, route.destination, protocol);
    auto error = request(message.header(), "RTM_DELROUTE", format_subnet(route.destination), ESRCH);
    if (error) return error;
  }
  return std::nullopt;
}

Status Netlink::put_local_route(int ifindex, uint32_t address) {
  const auto change = [&](uint16_t type, uint16_t flags, int ignored_errno) {
    NetlinkMessage message = route_message(type, flags, ifindex, {address, 32});
    rtmsg* body = body_of(message);
    body->rtm_table = RT_TABLE_LOCAL;
    body->rtm_scope = RT_SCOPE_HOST;
    body->rtm_type = RTN_LOCAL;
    return request(message.header(), type == RTM_NEWROUTE ? "RTM_NEWROUTE" : "RTM_DELROUTE",
                   "local " + format_address(address), ignored_errno);
  };
  // Neither NLM_F_EXCL nor NLM_F_APPEND: in front of what is there (`ip route prepend`).
  auto error = change(RTM_NEWROUTE, NLM_F_CREATE, 0);
  if (!error || error->number != EEXIST) return error;
  // It was put there before, and another in front of it since.
  if (auto refused = change(RTM_DELROUTE, 0, ESRCH)) return refused;
  return change(RTM_NEWROUTE, NLM_F_CREATE, EEXIST);
}

Status Netlink::delete_route(int ifindex, Subnet destination) {
  NetlinkMessage message = route_message(RTM_DELROUTE, 0, ifindex, destination);
  return request(message.header(), "RTM_DELROUTE", format_subnet(destination), ESRCH);
}

Status Netlink::put_gateway_route(int ifindex, Subnet destination, uint32_t gateway, bool onlink) {
  const auto put = [&] {
    constexpr uint16_t kFlags = NLM_F_CREATE | NLM_F_REPLACE;
    NetlinkMessage message =
        gateway_message(RTM_NEWROUTE, kFlags, ifindex, destination, gateway, onlink);
    return request(message.header(), "RTM_NEWROUTE", format_via(destination, gateway), 0);
  };
  auto error = put();
  // As in put_route: it is there, behind another.
  if (!error || error->number != EEXIST) return error;
  if (auto refused = delete_gateway_route(ifindex, destination, gateway, onlink)) return refused;
  return put();
}

Status Netlink::delete_gateway_route(int ifindex, Subnet destination, uint32_t gateway,
                                     bool onlink) {
  NetlinkMessage message = gateway_message(RTM_DELROUTE, 0, ifindex, destination, gateway, onlink);
  return request(message.header(), "RTM_DELROUTE", format_via(destination, gateway), ESRCH);
}

Result<RouteLookup> Netlink::look_up(uint32_t destination) {
  NetlinkMessage message(RTM_GETROUTE, 0);
  auto* body = message.family<rtmsg>();
  body->rtm_family = AF_INET;
  body->rtm_dst_len = 32;
  message.add_u32(RTA_DST, htonl(destination));
  RouteLookup out;
  auto error = request(message.header(), "RTM_GETROUTE", format_address(destination), 0,
                       [&](nlmsghdr& reply) { read_lookup(reply, out); });
  if (!error) return out;
  if (!is_lookup_answer(error->number)) return std::move(*error);
  out.error = error->number;
  return out;
}

Status Netlink::request(void* message, const char* operation, std::string detail, int ignored_errno,
                        const Reply& on_reply) {
  auto* header = static_cast<nlmsghdr*>(message);
  header->nlmsg_seq = ++sequence_;
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  const auto send = [&] {
    return ::sendto(fd_.get(), header, header->nlmsg_len, 0, reinterpret_cast<sockaddr*>(&kernel),
                    sizeof(kernel));
  };
  if (retry_interrupted(send) < 0) return Error{errno, operation, std::move(detail)};

  alignas(NLMSG_ALIGNTO) std::array<uint8_t, 16384> reply;
  for (;;) {
    const ssize_t received =
        retry_interrupted([&] { return ::recv(fd_.get(), reply.data(), reply.size(), 0); });
    if (received <= 0) {
      const int number = received == 0 || errno == EAGAIN ? ETIMEDOUT : errno;
      return Error{number, operation, std::move(detail)};
    }
    int error = 0;
    const auto take_part = [&](nlmsghdr& part) {
      if (part.nlmsg_seq != sequence_) return true;
      if (part.nlmsg_type == NLMSG_ERROR) {
        error = error_of(part);
        return false;
      }
      if (on_reply) on_reply(part);
      return true;
    };
    if (each_message({reply.data(), static_cast<size_t>(received)}, take_part)) continue;
    if (error == 0 || error == ignored_errno) return std::nullopt;
    return Error{error, operation, std::move(detail)};
  }
}

}  // namespace flannelette
