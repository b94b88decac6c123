#include "sys/netlink_batch.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "sys/netlink_dump.h"
#include "sys/owned_fd.h"
#include "sys/retry.h"

namespace flannelette {

namespace {

// As in netlink.cc: an answer that is not there then was lost.
constexpr timeval kReplyTime = {2, 0};

}  // namespace

void NetlinkBatch::append(const void* data, size_t bytes) {
  const auto* from = static_cast<const uint8_t*>(data);
  buffer_.insert(buffer_.end(), from, from + bytes);
  buffer_.resize(NLMSG_ALIGN(buffer_.size()));
  last()->nlmsg_len = static_cast<uint32_t>(buffer_.size() - last_);
}

void NetlinkBatch::begin_message(uint16_t type, uint16_t flags, const void* family, size_t bytes) {
  last_ = buffer_.size();
  buffer_.resize(last_ + NLMSG_HDRLEN);
  last()->nlmsg_type = type;
  last()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  last()->nlmsg_seq = ++sequence_;
  if ((flags & (NLM_F_ACK | NLM_F_DUMP)) != 0) awaited_ = sequence_;
  append(family, bytes);
}

void NetlinkBatch::add(uint16_t type, const void* data, size_t bytes) {
  const rtattr attribute{static_cast<uint16_t>(RTA_LENGTH(bytes)), type};
  append(&attribute, sizeof(attribute));
  append(data, bytes);
}

void NetlinkBatch::add_be32(uint16_t type, uint32_t value) { add_u32(type, htonl(value)); }

void NetlinkBatch::add_text(uint16_t type, const std::string& text) {
  add(type, text.c_str(), text.size() + 1);
}

size_t NetlinkBatch::open(uint16_t type) {
  const size_t nest = buffer_.size();
  const rtattr attribute{RTA_LENGTH(0), static_cast<uint16_t>(type | NLA_F_NESTED)};
  append(&attribute, sizeof(attribute));
  return nest;
}

void NetlinkBatch::close(size_t nest) {
  reinterpret_cast<rtattr*>(buffer_.data() + nest)->rta_len =
      static_cast<uint16_t>(buffer_.size() - nest);
}

void NetlinkBatch::acknowledge() {
  last()->nlmsg_flags |= NLM_F_ACK;
  awaited_ = sequence_;
}

Status NetlinkBatch::send(const char* operation, const Reply& on_reply, OwnedFd* kept) {
  OwnedFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol_));
  if (!fd.valid()) return Error{errno, operation, "socket"};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    (void)::setsockopt(fd.get(), SOL_SOCKET, option, &kReplyTime, sizeof(kReplyTime));
  // It goes in one datagram, or not at all.
  const int room = static_cast<int>(std::max<size_t>(2 * buffer_.size(), 212992));
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
  if (retry_interrupted([&] { return ::send(fd.get(), buffer_.data(), buffer_.size(), 0); }) < 0)
    return Error{errno, operation, ""};
  alignas(NLMSG_ALIGNTO) std::array<uint8_t, kDumpReplyBytes> reply;
  for (;;) {
    const ssize_t received =
        retry_interrupted([&] { return ::recv(fd.get(), reply.data(), reply.size(), 0); });
    if (received <= 0) {
      const int number = received == 0 || errno == EAGAIN ? ETIMEDOUT : errno;
      return Error{number, operation, ""};
    }
    int error = 0;
    bool ended = false;
    (void)each_message({reply.data(), static_cast<size_t>(received)}, [&](nlmsghdr& part) {
      if (part.nlmsg_type == NLMSG_ERROR) {
        error = error_of(part);
        ended = error != 0 || part.nlmsg_seq == awaited_;
      } else if (part.nlmsg_type == NLMSG_DONE) {
        ended = true;
      } else if (on_reply) {
        on_reply(part);
      }
      return !ended;
    });
    if (!ended) continue;
    if (error != 0) return Error{error, operation, ""};
    if (kept != nullptr) *kept = std::move(fd);
    return std::nullopt;
  }
}

}  // namespace flannelette
