// Questions to rtnetlink that are answered with one message or a listing of many (netlink(7)).
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "core/result.h"
#include "sys/owned_fd.h"
#include "sys/retry.h"

namespace flannelette {

// What the kernel fills at most in one answer to a dump (NLMSG_GOODSIZE since 4.4, 8 KiB before).
inline constexpr size_t kDumpReplyBytes = 32768;
// Listings that were overtaken by a change are begun again this often.
inline constexpr int kListingsMax = 10;

template <typename Family>
struct Question {
  nlmsghdr header{};
  Family family{};
  std::array<uint8_t, 32> attributes{};

  Question(uint16_t type, uint16_t flags) {
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
    header.nlmsg_len = NLMSG_LENGTH(sizeof(Family));
    header.nlmsg_seq = 1;
  }
  void add(uint16_t type, uint32_t value) {
    static_assert(sizeof(Family) % NLMSG_ALIGNTO == 0);
    const size_t at = header.nlmsg_len - NLMSG_LENGTH(sizeof(Family));
    const rtattr attribute{RTA_LENGTH(sizeof(value)), type};
    std::memcpy(attributes.data() + at, &attribute, sizeof(attribute));
    std::memcpy(attributes.data() + at + RTA_LENGTH(0), &value, sizeof(value));
    header.nlmsg_len += RTA_SPACE(sizeof(value));
  }
};

// Calls `take` with each whole message of what was received, until it returns false; true when it
// never did. NLMSG_NEXT would go on behind the end when the last message is not padded.
template <typename Take>
bool each_message(std::span<uint8_t> received, Take&& take) {
  for (size_t at = 0; received.size() - at >= sizeof(nlmsghdr);) {
    auto* message = reinterpret_cast<nlmsghdr*>(received.data() + at);
    const size_t room = received.size() - at;
    if (message->nlmsg_len < sizeof(nlmsghdr) || message->nlmsg_len > room) return true;
    if (!take(*message)) return false;
    at += std::min<size_t>(NLMSG_ALIGN(message->nlmsg_len), room);
  }
  return true;
}

// The family's header of a message, null in one too short for it.
template <typename Family>
const Family* family_of(const nlmsghdr& message) {
  if (message.nlmsg_len < NLMSG_LENGTH(sizeof(Family))) return nullptr;
  return static_cast<const Family*>(NLMSG_DATA(&message));
}

// The errno of an NLMSG_ERROR; 0: it acknowledges. EBADMSG for what is none (MAX_ERRNO is 4095).
inline int error_of(const nlmsghdr& message) {
  constexpr int kErrnoMax = 4095;
  const auto* number = family_of<int>(message);
  if (number == nullptr || *number > 0 || *number < -kErrnoMax) return EBADMSG;
  return -*number;
}

// Asks and hands every message of the answer to `take`, up to the end of a dump or, for a question
// without NLM_F_DUMP, the first. EAGAIN: a listing was overtaken by a change.
template <typename Family, typename Take>
Status ask(const Question<Family>& question, const char* operation, Take&& take) {
  OwnedFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!fd.valid()) return Error{errno, "socket NETLINK_ROUTE", ""};
  if (::send(fd.get(), &question, question.header.nlmsg_len, 0) < 0)
    return Error{errno, operation, ""};
  const bool dump = (question.header.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
  alignas(NLMSG_ALIGNTO) std::array<uint8_t, kDumpReplyBytes> reply;
  bool overtaken = false;
  for (;;) {
    const ssize_t received =
        retry_interrupted([&] { return ::recv(fd.get(), reply.data(), reply.size(), 0); });
    if (received <= 0) return Error{received < 0 ? errno : EIO, operation, ""};
    Status refused;
    const auto take_part = [&](nlmsghdr& part) {
      if ((part.nlmsg_flags & NLM_F_DUMP_INTR) != 0) overtaken = true;
      if (part.nlmsg_type == NLMSG_ERROR) refused = Error{error_of(part), operation, ""};
      if (part.nlmsg_type == NLMSG_DONE && overtaken) refused = Error{EAGAIN, operation, ""};
      if (part.nlmsg_type == NLMSG_ERROR || part.nlmsg_type == NLMSG_DONE) return false;
      take(&part);
      return dump;
    };
    if (!each_message({reply.data(), static_cast<size_t>(received)}, take_part)) return refused;
  }
}

// Calls `take` with the type, bytes and length of each attribute within an attribute.
template <typename Take>
void each_nested(const void* attributes, size_t bytes, Take&& take) {
  auto remaining = static_cast<int>(bytes);
  const auto* attribute = static_cast<const rtattr*>(attributes);
  for (; RTA_OK(attribute, remaining); attribute = RTA_NEXT(attribute, remaining))
    take(attribute->rta_type, RTA_DATA(attribute), static_cast<size_t>(RTA_PAYLOAD(attribute)));
}

// Calls `take` likewise with each attribute behind the family's header.
template <typename Family, typename Take>
void each_attribute(nlmsghdr* message, Take&& take) {
  if (message->nlmsg_len < NLMSG_SPACE(sizeof(Family))) return;
  each_nested(static_cast<uint8_t*>(NLMSG_DATA(message)) + NLMSG_ALIGN(sizeof(Family)),
              NLMSG_PAYLOAD(message, sizeof(Family)), take);
}

// The text of an attribute, up to its NUL or its end.
inline std::string text_of(const void* data, size_t bytes) {
  const auto* text = static_cast<const char*>(data);
  return {text, ::strnlen(text, bytes)};
}

inline uint32_t number_of(const void* data, size_t bytes) {
  uint32_t out = 0;
  std::memcpy(&out, data, std::min(bytes, sizeof(out)));
  return out;
}

// Calls `list_once` again while it was overtaken; its answer, or EAGAIN in the end.
template <typename List>
auto list_again(List&& list_once) {
  for (int listing = 1;; ++listing) {
    auto listed = list_once();
    if (listed.ok() || listed.error().number != EAGAIN || listing == kListingsMax) return listed;
  }
}

}  // namespace flannelette
