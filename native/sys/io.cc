#include "sys/io.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "sys/address.h"

namespace flannelette {

uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000ULL + static_cast<uint64_t>(now.tv_nsec);
}

void await_empty(std::span<const int> fds) {
  constexpr int kLooksMax = 100;
  constexpr timespec kPause{0, 1'000'000};
  // What is on its way through the kernel is there by the second look.
  for (int looks = 0, empty = 0; looks < kLooksMax && empty < 2; ++looks) {
    (void)::nanosleep(&kPause, nullptr);
    const bool waits = std::any_of(fds.begin(), fds.end(), [](int fd) {
      pollfd readable{fd, POLLIN, 0};
      return ::poll(&readable, 1, 0) > 0;
    });
    empty = waits ? 0 : empty + 1;
  }
}

void Io::sleep_ms(int ms) {
  const timespec time{ms / 1000, ms % 1000 * 1'000'000L};
  ::nanosleep(&time, nullptr);
}

ssize_t send_raw(Io& io, int raw_fd, uint32_t host, std::span<uint8_t> packet) {
  sockaddr_in to = socket_address(host, 0);
  iovec bytes{packet.data(), packet.size()};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = sizeof(to);
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  return io.sendmsg(raw_fd, &message);
}

namespace {

template <typename T>
T checked(T result) {
  return result < 0 ? static_cast<T>(-errno) : result;
}

class KernelIo final : public Io {
 public:
  ssize_t read(int fd, void* buffer, size_t bytes) override {
    return checked(::read(fd, buffer, bytes));
  }
  ssize_t write(int fd, const void* buffer, size_t bytes) override {
    return checked(::write(fd, buffer, bytes));
  }
  ssize_t readv(int fd, const iovec* pieces, int count) override {
    return checked(::readv(fd, pieces, count));
  }
  ssize_t writev(int fd, const iovec* pieces, int count) override {
    return checked(::writev(fd, pieces, count));
  }
  ssize_t recvmsg(int fd, msghdr* message) override {
    return checked(::recvmsg(fd, message, MSG_DONTWAIT));
  }
  ssize_t sendmsg(int fd, const msghdr* message) override {
    return checked(::sendmsg(fd, message, MSG_DONTWAIT));
  }
  int recvmmsg(int fd, mmsghdr* messages, unsigned count) override {
    return checked(::recvmmsg(fd, messages, count, MSG_DONTWAIT, nullptr));
  }
  int sendmmsg(int fd, mmsghdr* messages, unsigned count) override {
    return checked(::sendmmsg(fd, messages, count, MSG_DONTWAIT));
  }
  int poll(pollfd* fds, nfds_t count, int timeout_ms) override {
    return checked(::poll(fds, count, timeout_ms));
  }
  void yield() override { ::sched_yield(); }
};

}  // namespace

Io& kernel_io() {
  static KernelIo io;
  return io;
}

}  // namespace flannelette
