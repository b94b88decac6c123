#include "sys/route_lookup.h"

#include <arpa/inet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "sys/address.h"
#include "sys/netlink_dump.h"
#include "sys/owned_fd.h"

namespace flannelette {

namespace {

// The kernel answers within the send. Each answer takes a page of the socket's receive buffer
// (NLMSG_GOODSIZE), of which the default holds some forty.
constexpr size_t kBatch = 16;

struct Request {
  nlmsghdr header;
  rtmsg route;
  rtattr destination_header;
  uint32_t destination;
  rtattr source_header;
  uint32_t source;
};
static_assert(sizeof(Request) == NLMSG_LENGTH(sizeof(rtmsg)) + 2 * RTA_LENGTH(sizeof(uint32_t)));

// A request whose answer carries `sequence`; the same size with a source and without.
Request request_for(uint32_t destination, uint32_t source, uint32_t sequence) {
  Request out{};
  out.header.nlmsg_len = sizeof(Request);
  out.header.nlmsg_type = RTM_GETROUTE;
  out.header.nlmsg_flags = NLM_F_REQUEST;
  out.header.nlmsg_seq = sequence;
  out.route.rtm_family = AF_INET;
  out.route.rtm_dst_len = 32;
  // Else the answer names the main table.
  out.route.rtm_flags = RTM_F_LOOKUP_TABLE;
  out.route.rtm_src_len = source == 0 ? 0 : 32;
  out.destination_header = {RTA_LENGTH(sizeof(uint32_t)), RTA_DST};
  out.destination = htonl(destination);
  // 0.0.0.0 is no source to the kernel either.
  out.source_header = {RTA_LENGTH(sizeof(uint32_t)), RTA_SRC};
  out.source = htonl(source);
  return out;
}

Way way_of(nlmsghdr* message) {
  Way out;
  each_attribute<rtmsg>(message, [&](uint16_t type, const void* data, size_t bytes) {
    if (type == RTA_OIF) out.ifindex = number_of(data, bytes);
    if (type == RTA_TABLE) out.table = number_of(data, bytes);
  });
  return out;
}

// One run of questions and answers on a socket of its own.
class Lookup {
 public:
  Lookup(OwnedFd fd, const std::vector<uint32_t>& destinations)
      : fd_(std::move(fd)), destinations_(destinations), answers_(destinations.size()) {}

  // Asks for what has no answer yet, `batch` at a time.
  Status ask(uint32_t source, size_t batch) {
    std::vector<Request> requests;
    for (size_t at = 0; at < destinations_.size(); ++at) {
      if (answers_[at].has_value()) continue;
      requests.push_back(request_for(destinations_[at], source, static_cast<uint32_t>(at + 1)));
      if (requests.size() < batch) continue;
      if (auto error = exchange(requests)) return error;
    }
    return requests.empty() ? std::nullopt : exchange(requests);
  }

  // Forgets the refusals, so that they are asked for again; true when there were any.
  bool forget_refused() {
    bool any = false;
    for (auto& answer : answers_) {
      if (!answer || answer->ifindex != 0) continue;
      answer.reset();
      any = true;
    }
    return any;
  }

  std::vector<Way> take() const {
    std::vector<Way> out;
    out.reserve(answers_.size());
    for (const auto& answer : answers_) out.push_back(answer.value_or(Way{}));
    return out;
  }

 private:
  Status exchange(std::vector<Request>& requests) {
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    if (::sendto(fd_.get(), requests.data(), requests.size() * sizeof(Request), 0,
                 reinterpret_cast<sockaddr*>(&kernel), sizeof(kernel)) < 0)
      return Error{errno, "RTM_GETROUTE", format_address(ntohl(requests.front().destination))};
    requests.clear();
    receive();
    return std::nullopt;
  }

  // Reads what is there. Nothing is waited for: an answer that found no room is asked for again.
  void receive() {
    alignas(NLMSG_ALIGNTO) std::array<uint8_t, 8192> reply;
    for (;;) {
      const ssize_t received = ::recv(fd_.get(), reply.data(), reply.size(), MSG_DONTWAIT);
      if (received <= 0) return;
      (void)each_message({reply.data(), static_cast<size_t>(received)}, [&](nlmsghdr& part) {
        const size_t at = part.nlmsg_seq - 1U;
        if (at >= answers_.size()) return true;
        if (part.nlmsg_type == RTM_NEWROUTE) answers_[at] = way_of(&part);
        // ENETUNREACH, or what the route's type says (fib_props): EHOSTUNREACH, EACCES, EINVAL.
        if (part.nlmsg_type == NLMSG_ERROR) answers_[at] = Way{};
        return true;
      });
    }
  }

  OwnedFd fd_;
  const std::vector<uint32_t>& destinations_;
  std::vector<std::optional<Way>> answers_;
};

}  // namespace

Result<std::vector<Way>> ways_to(const std::vector<uint32_t>& destinations, uint32_t source) {
  OwnedFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd.valid()) return Error{errno, "socket NETLINK_ROUTE", ""};
  Lookup lookup(std::move(fd), destinations);
  if (auto error = lookup.ask(source, kBatch)) return std::move(*error);
  if (auto error = lookup.ask(source, 1)) return std::move(*error);
  // EINVAL of an absent source looks like that of a blackhole.
  if (source != 0 && lookup.forget_refused()) {
    if (auto error = lookup.ask(0, kBatch)) return std::move(*error);
    if (auto error = lookup.ask(0, 1)) return std::move(*error);
  }
  return lookup.take();
}

}  // namespace flannelette
