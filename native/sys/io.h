// The seam between the loops and the kernel: every system call a loop makes per batch goes through
// here, so that tests script partial sends, refusals and full queues.
//
// Each method is the system call of its name: the result, or a negative errno.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace flannelette {

// Nanoseconds of CLOCK_MONOTONIC. Only for the paths that wait, report or answer, never per packet.
uint64_t monotonic_ns();
// Waits until the threads that read these descriptors have emptied their queues, a tenth of a
// second at most.
void await_empty(std::span<const int> fds);

class Io {
 public:
  Io() = default;
  Io(const Io&) = delete;
  Io& operator=(const Io&) = delete;
  virtual ~Io() = default;

  virtual ssize_t read(int fd, void* buffer, size_t bytes) = 0;
  virtual ssize_t write(int fd, const void* buffer, size_t bytes) = 0;
  // A TUN with a virtio header takes and gives it as the first piece.
  virtual ssize_t readv(int fd, const iovec* pieces, int count) = 0;
  virtual ssize_t writev(int fd, const iovec* pieces, int count) = 0;
  virtual ssize_t recvmsg(int fd, msghdr* message) = 0;
  virtual ssize_t sendmsg(int fd, const msghdr* message) = 0;
  // recvmmsg since Linux 2.6.33, sendmmsg since 3.0; both without waiting.
  virtual int recvmmsg(int fd, mmsghdr* messages, unsigned count) = 0;
  virtual int sendmmsg(int fd, mmsghdr* messages, unsigned count) = 0;
  // Waits without a time-out, or at most `timeout_ms`.
  virtual int poll(pollfd* fds, nfds_t count, int timeout_ms) = 0;
  // sched_yield: others ready to run on this CPU go first.
  virtual void yield() {}
  // The clock that waits go by, and a sleep for a loop that cannot even poll.
  virtual uint64_t now_ns() { return monotonic_ns(); }
  virtual void sleep_ms(int ms);
};

// Sends a whole IPv4 packet to a host by a raw socket (open_raw_socket): what sendmsg gives.
ssize_t send_raw(Io& io, int raw_fd, uint32_t host, std::span<uint8_t> packet);

// The kernel itself. Stateless.
Io& kernel_io();

}  // namespace flannelette
