#include "sys/host_watch.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>

#include "sys/owned_fd.h"
#include "sys/retry.h"
#include "sys/scheduling.h"

namespace flannelette {

namespace {

// Time between two bytes: a host whose routes change all the time (BGP) must not be woken for each.
constexpr int kRestMs = 100;
constexpr uint32_t kGroups =
    RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE;

struct Watch {
  OwnedFd netlink;
  OwnedFd listener;
};

// ENOBUFS says that messages were lost, which is a change as well.
void drain(int fd) {
  std::array<uint8_t, 4096> unread;
  for (;;) {
    const ssize_t received = retry_interrupted(
        [&] { return ::recv(fd, unread.data(), unread.size(), MSG_DONTWAIT | MSG_TRUNC); });
    if (received <= 0 && !(received < 0 && errno == ENOBUFS)) return;
  }
}

// False when the listener closed its end.
bool tell(int fd) {
  const uint8_t byte = 1;
  const ssize_t sent =
      retry_interrupted([&] { return ::send(fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT); });
  return sent == 1 || errno == EAGAIN;
}

void* serve(void* given) {
  const std::unique_ptr<Watch> watch(static_cast<Watch*>(given));
  // Nothing is ever sent here: only the listener's end wakes the second.
  pollfd waits[2] = {{watch->netlink.get(), POLLIN, 0}, {watch->listener.get(), POLLIN, 0}};
  for (;;) {
    if (retry_interrupted([&] { return ::poll(waits, 2, -1); }) < 0) return nullptr;
    if (waits[1].revents != 0) return nullptr;
    drain(watch->netlink.get());
    if (!tell(watch->listener.get())) return nullptr;
    if (retry_interrupted([&] { return ::poll(&waits[1], 1, kRestMs); }) != 0) return nullptr;
  }
}

}  // namespace

Result<int> watch_host() {
  auto watch = std::make_unique<Watch>();
  watch->netlink =
      OwnedFd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  if (!watch->netlink.valid()) return Error{errno, "socket NETLINK_ROUTE", ""};
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = kGroups;
  if (::bind(watch->netlink.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) <
      0)
    return Error{errno, "bind NETLINK_ROUTE", ""};
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
    return Error{errno, "socketpair", ""};
  OwnedFd read_end(ends[0]);
  watch->listener = OwnedFd(ends[1]);
  pthread_t thread{};
  if (auto error = start_thread(thread, "host-watch", -1, serve, watch.get()))
    return std::move(*error);
  (void)watch.release();
  (void)::pthread_detach(thread);
  return read_end.release();
}

}  // namespace flannelette
