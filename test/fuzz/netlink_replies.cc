// Fuzz target: any bytes as the kernel's answers to the questions that native/sys asks of
// rtnetlink. Nothing may be read behind what was received, texts and lists are bounded by it, and
// every question ends.
//
// Input: the question (1 byte), options (1 byte), then answers: length (2 bytes, cut to what is
// left), bytes. As random bytes seldom form messages, options may set sequence, length and type
// right.
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "sys/interfaces.h"
#include "sys/kernel_routes.h"
#include "sys/netlink.h"
#include "sys/route_lookup.h"
#include "sys/vxlan.h"

using namespace flannelette;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// What the calls below answer with.
struct Kernel {
  std::deque<std::vector<uint8_t>> answers;
  size_t received = 0;  // bytes
  size_t calls = 0;
  nlmsghdr asked{};
  uint8_t options = 0;
};

Kernel& kernel() {
  static Kernel only;
  return only;
}

uint16_t answer_type(uint16_t question) {
  // RTM_GETLINK is answered by RTM_NEWLINK, and so on: each object has four types in this order.
  return static_cast<uint16_t>(question & ~3U);
}

// Makes a message of bytes that are one only in size.
void repair(std::vector<uint8_t>& bytes) {
  const uint8_t options = kernel().options;
  for (size_t at = 0; at + sizeof(nlmsghdr) <= bytes.size();) {
    nlmsghdr header{};
    std::memcpy(&header, bytes.data() + at, sizeof(header));
    const size_t room = bytes.size() - at;
    if (options & 1) header.nlmsg_seq = kernel().asked.nlmsg_seq;
    if (options & 2) {
      const size_t length = sizeof(header) + header.nlmsg_len % 128;
      header.nlmsg_len = static_cast<uint32_t>(std::min(length, room));
    }
    if ((options & 4) && header.nlmsg_type > NLMSG_DONE)
      header.nlmsg_type = answer_type(kernel().asked.nlmsg_type);
    std::memcpy(bytes.data() + at, &header, sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > room) return;
    at += NLMSG_ALIGN(header.nlmsg_len);
  }
}

ssize_t asked(const void* message, size_t bytes) {
  require(bytes >= sizeof(nlmsghdr));
  std::memcpy(&kernel().asked, message, sizeof(nlmsghdr));
  require(++kernel().calls < 10'000);
  return static_cast<ssize_t>(bytes);
}

}  // namespace

// In place of the C library's, for the library under test. A datagram socket pair's end stands for
// the netlink socket, so that closing and setting options are real.
extern "C" {

// NOLINTBEGIN(readability-identifier-naming)
int socket(int /*domain*/, int /*type*/, int /*protocol*/) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) < 0) return -1;
  ::close(ends[1]);
  return ends[0];
}

ssize_t send(int /*fd*/, const void* message, size_t bytes, int /*flags*/) {
  return asked(message, bytes);
}

ssize_t sendto(int /*fd*/, const void* message, size_t bytes, int /*flags*/, const sockaddr* /*to*/,
               socklen_t /*length*/) {
  return asked(message, bytes);
}

ssize_t recv(int /*fd*/, void* buffer, size_t bytes, int /*flags*/) {
  Kernel& state = kernel();
  require(++state.calls < 10'000);
  if (state.answers.empty()) {
    errno = ENOBUFS;
    return -1;
  }
  std::vector<uint8_t> answer = std::move(state.answers.front());
  state.answers.pop_front();
  repair(answer);
  const size_t length = std::min(bytes, answer.size());
  if (length != 0) std::memcpy(buffer, answer.data(), length);
  state.received += length;
  return static_cast<ssize_t>(length);
}
// NOLINTEND(readability-identifier-naming)

}  // extern "C"

namespace {

void ask_device(Netlink& netlink) {
  auto link = netlink.link(3);
  if (link.ok()) require(link.value().name.size() <= kernel().received);
}

void ask_question(uint8_t question) {
  auto opened = Netlink::open();
  require(opened.ok());
  Netlink& netlink = opened.value();
  switch (question % 10) {
    case 0:
      return ask_device(netlink);
    case 1:
      (void)netlink.look_up(0x64600203);
      return;
    case 2:
      (void)netlink.put_route(3, {0x64600000, 16});
      return;
    case 3:
      (void)netlink.delete_program(3, ProgramPoint::kIngress, "fl");
      return;
    case 4: {
      auto listed = list_interfaces();
      if (!listed.ok()) return;
      require(listed.value().size() * sizeof(nlmsghdr) <= kernel().received);
      for (const Interface& interface : listed.value())
        require(interface.name.size() <= kernel().received);
      return;
    }
    case 5: {
      auto listed = list_kernel_routes();
      if (listed.ok()) require(listed.value().size() * sizeof(nlmsghdr) <= kernel().received);
      return;
    }
    case 6:
      (void)list_vteps(3);
      return;
    case 7: {
      const std::vector<uint32_t> destinations = {1, 2, 3, 4, 5};
      auto found = ways_to(destinations, 7);
      require(found.ok() && found.value().size() == destinations.size());
      return;
    }
    case 8: {
      auto listed = list_kernel_routes_within({0x64600000, 16});
      if (listed.ok()) require(listed.value().size() * sizeof(nlmsghdr) <= kernel().received);
      return;
    }
    default:
      (void)netlink.add_address(3, 0x64600100);
      return;
  }
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  kernel() = {};
  kernel().options = data[1];
  for (size_t at = 2; at + 2 <= size;) {
    const size_t length = std::min<size_t>(data[at] * 256U + data[at + 1], size - at - 2);
    kernel().answers.emplace_back(data + at + 2, data + at + 2 + length);
    at += 2 + length;
  }
  ask_question(data[0]);
  return 0;
}
