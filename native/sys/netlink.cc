#include "sys/netlink.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "sys/address.h"
#include "sys/retry.h"

namespace flannelette {

namespace {

// The kernel answers before sendto returns; an answer that is not there then was lost.
constexpr timeval kReplyTime = {2, 0};

// A netlink message under construction: header, family header, attributes (all 4-byte aligned).
class Message {
 public:
  Message(uint16_t type, uint16_t flags) {
    header()->nlmsg_type = type;
    header()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    header()->nlmsg_len = NLMSG_HDRLEN;
  }

  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(buffer_.data()); }

  template <typename T>
  T* family() {
    header()->nlmsg_len = NLMSG_LENGTH(sizeof(T));
    return reinterpret_cast<T*>(buffer_.data() + NLMSG_HDRLEN);
  }

  rtattr* add(uint16_t type, const void* data, size_t bytes) {
    auto* attribute = reinterpret_cast<rtattr*>(buffer_.data() + NLMSG_ALIGN(header()->nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(bytes));
    if (bytes != 0) std::memcpy(RTA_DATA(attribute), data, bytes);
    header()->nlmsg_len =
        static_cast<uint32_t>(NLMSG_ALIGN(header()->nlmsg_len) + RTA_ALIGN(attribute->rta_len));
    return attribute;
  }

  void add_u32(uint16_t type, uint32_t value) { add(type, &value, sizeof(value)); }

  // Closes a nested attribute opened by add(type, nullptr, 0).
  void close(rtattr* nest) {
    nest->rta_len = static_cast<uint16_t>(buffer_.data() + header()->nlmsg_len -
                                          reinterpret_cast<uint8_t*>(nest));
  }

 private:
  alignas(NLMSG_ALIGNTO) std::array<uint8_t, 256> buffer_{};
};

void read_link(nlmsghdr* message, LinkQueue& out) {
  auto* attribute = IFLA_RTA(NLMSG_DATA(message));
  auto remaining = IFLA_PAYLOAD(message);
  for (; RTA_OK(attribute, remaining); attribute = RTA_NEXT(attribute, remaining)) {
    if (attribute->rta_type == IFLA_TXQLEN) {
      std::memcpy(&out.packets, RTA_DATA(attribute), sizeof(out.packets));
    } else if (attribute->rta_type == IFLA_STATS64) {
      rtnl_link_stats64 stats{};
      // Later kernels append to it.
      std::memcpy(&stats, RTA_DATA(attribute), std::min(sizeof(stats), RTA_PAYLOAD(attribute)));
      out.drops = stats.tx_dropped;
    }
  }
}

}  // namespace

Result<Netlink> Netlink::open() {
  OwnedFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd.valid()) return Error{errno, "socket NETLINK_ROUTE", ""};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    (void)::setsockopt(fd.get(), SOL_SOCKET, option, &kReplyTime, sizeof(kReplyTime));
  return Netlink(std::move(fd));
}

Status Netlink::add_address(int ifindex, uint32_t address) {
  Message message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
  auto* body = message.family<ifaddrmsg>();
  body->ifa_family = AF_INET;
  body->ifa_prefixlen = 32;
  body->ifa_index = static_cast<uint32_t>(ifindex);
  message.add_u32(IFA_LOCAL, htonl(address));
  message.add_u32(IFA_ADDRESS, htonl(address));
  return request(message.header(), "RTM_NEWADDR", format_address(address) + "/32", EEXIST);
}

Status Netlink::set_up(int ifindex, uint32_t mtu, uint32_t queue_length) {
  {
    Message message(RTM_SETLINK, 0);
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
  Message message(RTM_SETLINK, 0);
  auto* body = message.family<ifinfomsg>();
  body->ifi_index = ifindex;
  body->ifi_flags = IFF_UP;
  body->ifi_change = IFF_UP;
  message.add_u32(IFLA_MTU, mtu);
  message.add_u32(IFLA_TXQLEN, queue_length);
  return request(message.header(), "RTM_SETLINK", "mtu " + std::to_string(mtu), 0);
}

Result<LinkQueue> Netlink::transmit_queue(int ifindex) {
  Message message(RTM_GETLINK, 0);
  auto* body = message.family<ifinfomsg>();
  body->ifi_index = ifindex;
  LinkQueue link;
  if (auto error = request(message.header(), "RTM_GETLINK", "", 0, &link)) return std::move(*error);
  return link;
}

Status Netlink::put_route(int ifindex, Subnet destination, uint32_t preferred_source) {
  return request_route(NLM_F_REPLACE, ifindex, destination, preferred_source);
}

Result<bool> Netlink::add_missing_route(int ifindex, Subnet destination,
                                        uint32_t preferred_source) {
  // NLM_F_EXCL makes the kernel compare: a route that is there costs no change and no notification.
  auto error = request_route(NLM_F_EXCL, ifindex, destination, preferred_source);
  if (!error) return true;
  if (error->number == EEXIST) return false;
  return std::move(*error);
}

Status Netlink::request_route(uint16_t flags, int ifindex, Subnet destination,
                              uint32_t preferred_source) {
  Message message(RTM_NEWROUTE, static_cast<uint16_t>(NLM_F_CREATE | flags));
  auto* body = message.family<rtmsg>();
  body->rtm_family = AF_INET;
  body->rtm_dst_len = static_cast<uint8_t>(destination.prefix);
  body->rtm_table = RT_TABLE_MAIN;
  body->rtm_protocol = RTPROT_BOOT;
  body->rtm_scope = RT_SCOPE_LINK;
  body->rtm_type = RTN_UNICAST;
  message.add_u32(RTA_DST, htonl(destination.network));
  message.add_u32(RTA_OIF, static_cast<uint32_t>(ifindex));
  message.add_u32(RTA_PREFSRC, htonl(preferred_source));
  return request(message.header(), "RTM_NEWROUTE",
                 format_address(destination.network) + "/" + std::to_string(destination.prefix), 0);
}

Status Netlink::request(void* message, const char* operation, std::string detail, int ignored_errno,
                        LinkQueue* link) {
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
    auto remaining = static_cast<size_t>(received);
    for (auto* part = reinterpret_cast<nlmsghdr*>(reply.data()); NLMSG_OK(part, remaining);
         part = NLMSG_NEXT(part, remaining)) {
      if (part->nlmsg_seq != sequence_) continue;
      if (part->nlmsg_type == RTM_NEWLINK && link != nullptr) read_link(part, *link);
      if (part->nlmsg_type != NLMSG_ERROR) continue;
      const int error = -static_cast<nlmsgerr*>(NLMSG_DATA(part))->error;
      if (error == 0 || error == ignored_errno) return std::nullopt;
      return Error{error, operation, std::move(detail)};
    }
  }
}

}  // namespace flannelette
