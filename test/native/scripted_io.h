// A kernel made of queues: what the loops read, what their sends and writes meet, and a record of
// everything they asked for. No descriptor is real.
//
//   tun_reads, datagrams --> loop --> sent (UDP), written (TUN), raw (ICMP)
//   send_results, write_results, raw_results: what the next calls return, then success
//
// Time passes in waits and sleeps only, by as much as they ask for.
//
// A loop that waits with nothing left to do is stopped (the test is over). A loop that makes more
// than `call_limit` calls is stopped too and `overrun` says so: that is what a spin looks like.
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "core/virtio_net.h"
#include "engine/direction.h"
#include "packets.h"
#include "sys/address.h"
#include "sys/io.h"
#include "sys/kernel.h"

namespace flannelette::test {

inline constexpr int kTunFd = 1001;
inline constexpr int kUdpFd = 1002;
inline constexpr int kRawFd = 1003;
inline constexpr int kStopFd = 1004;
// Sockets of further source ports are this and the numbers after it.
inline constexpr int kSourceFd = 2001;

// One read of the TUN: a packet, or the errno it fails with.
struct TunRead {
  Bytes bytes;
  int error = 0;
  VirtioNetHeader header = {};  // of a TUN that has them
  // Of them, read; fewer than all, and no byte of the packet is.
  size_t header_bytes = sizeof(VirtioNetHeader);
};

struct Datagram {
  Bytes bytes;
  uint32_t source = kNode2;
  int error = 0;       // instead of a datagram
  int segment = 0;     // of a train: bytes of each datagram but the last (UDP_GRO)
  Bytes control = {};  // control messages instead of that one, cut to the room there is
};

struct SentDatagram {
  Bytes bytes;
  uint32_t destination;
  uint16_t port;
  int fd = -1;  // the socket it was sent by
};

// A packet a send refused, and the errno it gave.
struct Refusal {
  Bytes bytes;
  int error;
};

struct PollCall {
  short tun;  // events watched; 0: not watched
  short udp;
  int timeout_ms;
  int source_fd = -1;  // a further source port's socket, watched for POLLOUT
};

class ScriptedIo final : public Io {
 public:
  std::deque<TunRead> tun_reads;
  std::deque<Datagram> datagrams;
  // Per send call: n > 0 takes at most n packets, n < 0 is -errno. Used up: all are taken.
  std::deque<int> send_results;
  std::deque<int> write_results;  // per TUN write: 0 takes it, n < 0 is -errno
  std::deque<int> raw_results;    // the same of the raw socket
  // While set, every send would block and no poll says POLLOUT of the UDP socket.
  bool send_blocked = false;
  // The same of one socket, a further source port's.
  int blocked_fd = -1;
  // What the next polls answer about the TUN and the UDP socket, before they look at the queues.
  struct PollAnswer {
    short tun;
    short udp;
    int result = 1;
  };
  std::deque<PollAnswer> poll_answers;
  // A kernel that is out of order: what every call of a kind returns (a negative errno, 0),
  // whatever the queues hold, and a poll that finds all it watches ready.
  struct Storm {
    std::optional<int> tun_read = {};
    std::optional<int> tun_write = {};
    std::optional<int> receive = {};
    std::optional<int> send = {};
    std::optional<int> poll = {};
    bool always_ready = false;
    uint64_t until_ns = 0;  // when it stops the loop
  };
  Storm storm;
  // Called first in each poll; true: the answer is in the pollfds already.
  std::function<bool(pollfd*, int)> on_poll;
  std::function<void()> on_send;  // first in each send to the UDP socket
  // Called in each sendmmsg and recvmmsg, before it is answered: what another thread does then.
  std::function<void()> on_many;

  std::vector<SentDatagram> sent;
  std::vector<Bytes> written;
  std::vector<TunWrite> written_large;  // through writev
  std::vector<SentDatagram> raw;
  std::vector<Refusal> refused;  // first packet of each send that failed but to try again
  std::vector<size_t> offered;   // packets in each sendmmsg
  std::vector<PollCall> polls;

  std::atomic<bool> stop{false};
  size_t calls = 0;
  size_t call_limit = 100'000;
  bool overrun = false;
  size_t reads = 0;
  size_t recvmsg_calls = 0;
  size_t recvmmsg_calls = 0;
  size_t sendmsg_calls = 0;
  size_t sendmmsg_calls = 0;
  size_t write_calls = 0;
  size_t trains = 0;                  // messages sent with UDP_SEGMENT
  std::vector<size_t> train_packets;  // of each
  size_t yields = 0;
  size_t most_yields = 0;  // between two polls
  size_t sleeps = 0;
  uint64_t now = 1'000'000'000;

  // As new, for loops that outlive a test.
  void reset() {
    tun_reads.clear();
    datagrams.clear();
    send_results.clear();
    write_results.clear();
    raw_results.clear();
    poll_answers.clear();
    sent.clear();
    written.clear();
    written_large.clear();
    raw.clear();
    refused.clear();
    offered.clear();
    polls.clear();
    calls = 0;
    overrun = false;
    stop = false;
  }

  ssize_t read(int fd, void* buffer, size_t bytes) override {
    count_call();
    ++reads;
    if (fd != kTunFd) return -EBADF;
    if (storm.tun_read) return *storm.tun_read;
    if (tun_reads.empty()) return -EAGAIN;
    const TunRead next = take(tun_reads);
    if (next.error != 0) return -next.error;
    const size_t length = std::min(bytes, next.bytes.size());
    copy(buffer, next.bytes, length);
    return static_cast<ssize_t>(length);
  }

  ssize_t write(int fd, const void* buffer, size_t bytes) override {
    count_call();
    ++write_calls;
    if (fd != kTunFd) return -EBADF;
    if (storm.tun_write) return *storm.tun_write;
    const int result = write_results.empty() ? 0 : take(write_results);
    if (result < 0) return result;
    const auto* first = static_cast<const uint8_t*>(buffer);
    written.emplace_back(first, first + bytes);
    return static_cast<ssize_t>(bytes);
  }

  ssize_t readv(int fd, const iovec* pieces, int count) override {
    count_call();
    ++reads;
    if (fd != kTunFd || count != 2) return -EBADF;
    if (storm.tun_read) return *storm.tun_read;
    if (tun_reads.empty()) return -EAGAIN;
    const TunRead next = take(tun_reads);
    if (next.error != 0) return -next.error;
    std::memcpy(pieces[0].iov_base, &next.header, next.header_bytes);
    if (next.header_bytes < sizeof(next.header)) return static_cast<ssize_t>(next.header_bytes);
    const size_t length = std::min(pieces[1].iov_len, next.bytes.size());
    copy(pieces[1].iov_base, next.bytes, length);
    return static_cast<ssize_t>(sizeof(next.header) + length);
  }

  ssize_t writev(int fd, const iovec* pieces, int count) override {
    count_call();
    ++write_calls;
    if (fd != kTunFd) return -EBADF;
    if (storm.tun_write) return *storm.tun_write;
    const int result = write_results.empty() ? 0 : take(write_results);
    if (result < 0) return result;
    Bytes all;
    for (int i = 0; i < count; ++i) {
      const auto* first = static_cast<const uint8_t*>(pieces[i].iov_base);
      all.insert(all.end(), first, first + pieces[i].iov_len);
    }
    TunWrite large;
    std::memcpy(&large.offload, all.data(), sizeof(large.offload));
    large.packet.assign(all.begin() + sizeof(large.offload), all.end());
    written_large.push_back(large);
    return static_cast<ssize_t>(all.size());
  }

  ssize_t recvmsg(int fd, msghdr* message) override {
    count_call();
    ++recvmsg_calls;
    if (fd != kUdpFd) return -EBADF;
    if (storm.receive) return *storm.receive;
    if (datagrams.empty()) return -EAGAIN;
    const Datagram next = take(datagrams);
    if (next.error != 0) return -next.error;
    return static_cast<ssize_t>(deliver(next, *message));
  }

  int recvmmsg(int fd, mmsghdr* messages, unsigned count) override {
    count_call();
    ++recvmmsg_calls;
    if (on_many) on_many();
    if (fd != kUdpFd) return -EBADF;
    if (storm.receive) return *storm.receive;
    unsigned n = 0;
    for (; n < count && !datagrams.empty(); ++n) {
      if (datagrams.front().error != 0) {
        // The kernel keeps an error that follows datagrams for the next call.
        if (n != 0) break;
        return -take(datagrams).error;
      }
      messages[n].msg_len = static_cast<unsigned>(deliver(take(datagrams), messages[n].msg_hdr));
    }
    return n == 0 ? -EAGAIN : static_cast<int>(n);
  }

  ssize_t sendmsg(int fd, const msghdr* message) override {
    count_call();
    if (fd == kRawFd) {
      const int result = raw_results.empty() ? 0 : take(raw_results);
      if (result < 0) return result;
      raw.push_back(captured(*message));
      return static_cast<ssize_t>(raw.back().bytes.size());
    }
    ++sendmsg_calls;
    if (fd != kUdpFd && fd < kSourceFd) return -EBADF;
    const int result = next_send(fd);
    if (result < 0) {
      note_refusal(*message, -result);
      return result;
    }
    return static_cast<ssize_t>(record(*message, fd));
  }

  int sendmmsg(int fd, mmsghdr* messages, unsigned count) override {
    count_call();
    ++sendmmsg_calls;
    if (on_many) on_many();
    offered.push_back(count);
    if (fd != kUdpFd && fd < kSourceFd) return -EBADF;
    const int result = next_send(fd);
    if (result < 0) {
      note_refusal(messages[0].msg_hdr, -result);
      return result;
    }
    const unsigned taken = std::min(count, static_cast<unsigned>(result));
    for (unsigned i = 0; i < taken; ++i) {
      messages[i].msg_len = static_cast<unsigned>(record(messages[i].msg_hdr, fd));
    }
    return static_cast<int>(taken);
  }

  int poll(pollfd* fds, nfds_t count, int timeout_ms) override {
    count_call();
    yields_now_ = 0;
    pollfd* tun = nullptr;
    pollfd* udp = nullptr;   // waiting to receive
    pollfd* send = nullptr;  // waiting to send
    for (nfds_t i = 0; i < count; ++i) {
      if (fds[i].fd == kTunFd) tun = &fds[i];
      if (fds[i].fd == kUdpFd || fds[i].fd >= kSourceFd)
        (fds[i].events == POLLOUT ? send : udp) = &fds[i];
    }
    PollCall call = {tun == nullptr ? short{0} : tun->events,
                     udp == nullptr ? short{0} : udp->events, timeout_ms};
    if (send != nullptr && send->fd == kUdpFd) call.udp = static_cast<short>(call.udp | POLLOUT);
    if (send != nullptr && send->fd != kUdpFd) call.source_fd = send->fd;
    polls.push_back(call);
    if (storm.until_ns != 0 && now >= storm.until_ns) stop = true;
    if (storm.poll) return *storm.poll;
    if (on_poll && on_poll(fds, timeout_ms)) return 1;
    if (!poll_answers.empty()) {
      const PollAnswer answer = take(poll_answers);
      if (tun != nullptr) tun->revents = answer.tun;
      if (udp != nullptr) udp->revents = answer.udp;
      if (send != nullptr) send->revents = answer.udp;
      return answer.result;
    }
    int ready = 0;
    for (nfds_t i = 0; i < count && storm.always_ready; ++i) {
      fds[i].revents = i == 0 || fds[i].fd < 0 ? short{0} : fds[i].events;
      if (fds[i].revents != 0) ++ready;
    }
    if (storm.always_ready) {
      if (ready == 0) pass(timeout_ms);
      return ready;
    }
    if (tun != nullptr) ready += answer(*tun, !tun_reads.empty(), true);
    if (udp != nullptr) ready += answer(*udp, !datagrams.empty(), false);
    if (send != nullptr) ready += answer(*send, false, !send_blocked && send->fd != blocked_fd);
    if (ready == 0 && timeout_ms < 0) stop = true;
    if (ready == 0) pass(timeout_ms);
    return ready;
  }

  uint64_t now_ns() override { return now; }

  void sleep_ms(int ms) override {
    count_call();
    ++sleeps;
    pass(ms);
  }

  void yield() override {
    count_call();
    ++yields;
    most_yields = std::max(most_yields, ++yields_now_);
  }

 private:
  void pass(int ms) {
    if (ms > 0) now += static_cast<uint64_t>(ms) * 1'000'000;
    if (storm.until_ns != 0 && now >= storm.until_ns) stop = true;
  }

  template <typename T>
  static T take(std::deque<T>& queue) {
    T value = std::move(queue.front());
    queue.pop_front();
    return value;
  }

  static void copy(void* to, const Bytes& from, size_t length) {
    if (length != 0) std::memcpy(to, from.data(), length);
  }

  static int answer(pollfd& fd, bool readable, bool writable) {
    fd.revents = 0;
    if (readable) fd.revents = static_cast<short>(fd.revents | (fd.events & POLLIN));
    if (writable) fd.revents = static_cast<short>(fd.revents | (fd.events & POLLOUT));
    return fd.revents == 0 ? 0 : 1;
  }

  static size_t deliver(const Datagram& datagram, msghdr& message) {
    const size_t length = std::min(datagram.bytes.size(), message.msg_iov[0].iov_len);
    copy(message.msg_iov[0].iov_base, datagram.bytes, length);
    message.msg_flags = length < datagram.bytes.size() ? MSG_TRUNC : 0;
    if (message.msg_control != nullptr && !datagram.control.empty()) {
      // socklen_t in musl.
      const size_t room = message.msg_controllen;
      message.msg_controllen =
          static_cast<decltype(message.msg_controllen)>(std::min(room, datagram.control.size()));
      copy(message.msg_control, datagram.control, message.msg_controllen);
    } else if (message.msg_control != nullptr && datagram.segment != 0) {
      auto* control = static_cast<cmsghdr*>(message.msg_control);
      control->cmsg_level = IPPROTO_UDP;
      control->cmsg_type = UDP_GRO;
      control->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(control), &datagram.segment, sizeof(int));
      message.msg_controllen = CMSG_SPACE(sizeof(int));
    } else {
      message.msg_controllen = 0;
    }
    const sockaddr_in from = socket_address(datagram.source, 8285);
    const auto room = std::min(static_cast<size_t>(message.msg_namelen), sizeof(from));
    std::memcpy(message.msg_name, &from, room);
    message.msg_namelen = sizeof(from);
    return length;
  }

  static SentDatagram captured(const msghdr& message) {
    sockaddr_in to{};
    std::memcpy(&to, message.msg_name, sizeof(to));
    SentDatagram out{{}, ntohl(to.sin_addr.s_addr), ntohs(to.sin_port)};
    for (size_t i = 0; i < message.msg_iovlen; ++i) {
      const auto* first = static_cast<const uint8_t*>(message.msg_iov[i].iov_base);
      out.bytes.insert(out.bytes.end(), first, first + message.msg_iov[i].iov_len);
    }
    return out;
  }

  // Cuts a train into its datagrams, as the kernel does, and keeps them; all its bytes.
  size_t record(const msghdr& message, int fd) {
    const SentDatagram all = captured(message);
    size_t segment = all.bytes.size();
    if (message.msg_controllen != 0) {
      const auto* control = static_cast<const cmsghdr*>(message.msg_control);
      uint16_t size = 0;
      std::memcpy(&size, CMSG_DATA(control), sizeof(size));
      segment = size;
      ++trains;
    }
    size_t at = 0;
    do {
      const size_t end = std::min(all.bytes.size(), at + segment);
      sent.push_back({Bytes(all.bytes.begin() + static_cast<ptrdiff_t>(at),
                            all.bytes.begin() + static_cast<ptrdiff_t>(end)),
                      all.destination, all.port, fd});
      at = end;
    } while (at < all.bytes.size());
    if (message.msg_controllen != 0)
      train_packets.push_back((all.bytes.size() + segment - 1) / segment);
    return all.bytes.size();
  }

  void note_refusal(const msghdr& message, int error) {
    if (error != EAGAIN && error != EINTR) refused.push_back({captured(message).bytes, error});
  }

  int next_send(int fd) {
    if (on_send) on_send();
    if (storm.send) return *storm.send;
    if (send_blocked || fd == blocked_fd) return -EAGAIN;
    return send_results.empty() ? INT32_MAX : take(send_results);
  }

  void count_call() {
    if (++calls <= call_limit) return;
    overrun = true;
    stop = true;
  }

  size_t yields_now_ = 0;
};

// A scripted kernel, a table with the example's routes and an event pipe: what a direction needs.
class Rig {
 public:
  Rig()
      : pipe_(std::move(EventPipe::open().value())),
        events_fd_(pipe_.take_read_end()),
        table_(std::make_unique<const ForwardingTable>(example_routes())) {}

  ScriptedIo io;

  // A TUN with virtio headers in mode offload, unless all that needs them is disabled.
  DirectionContext context(Mode mode, bool source_check = true, Io* other = nullptr,
                           FeatureSet disabled = 0) {
    const FeatureSet used = mode == Mode::kBasic   ? 0
                            : mode == Mode::kBatch ? feature_bit(KernelFeature::kMmsg)
                                                   : kAllFeatures;
    const FeatureSwitches& features = features_.emplace_back(used, disabled);
    return {
        .io = other == nullptr ? io : *other,
        .tun_fd = kTunFd,
        .udp_fd = kUdpFd,
        .raw_fd = kRawFd,
        .stop_fd = kStopFd,
        .stop = io.stop,
        .table = table_,
        .events = pipe_,
        .features = features_.back(),
        .vnet_header = features.on(KernelFeature::kTunTso) || features.on(KernelFeature::kTunUso),
        .mode = mode,
        .tun_address = kTunAddress,
        .overlay = kOverlay,
        .own = kOwn,
        .port = 8285,
        .source_check = source_check,
        .ring_bytes = kRingBytesMin};
  }

  // Of the last context.
  FeatureSwitches& features() { return features_.back(); }

  PublishedTable& table() { return table_; }
  const EventPipe& pipe() const { return pipe_; }

  // The records written since the last call.
  std::vector<EventRecord> events() {
    std::vector<EventRecord> out;
    EventRecord record{};
    while (::read(events_fd_.get(), &record, sizeof(record)) == sizeof(record))
      out.push_back(record);
    return out;
  }

 private:
  EventPipe pipe_;
  OwnedFd events_fd_;
  PublishedTable table_;
  std::deque<FeatureSwitches> features_;  // one for each context
};

// Packets numbered from `first` on, to be read from the TUN.
inline void offer(ScriptedIo& io, uint32_t count, size_t size = 64, uint32_t first = 0) {
  for (uint32_t i = 0; i < count; ++i)
    io.tun_reads.push_back({numbered_packet(first + i, size), 0});
}

// Whether `sent` is exactly the packets first, first + 1, ... one hop later, to node 2.
inline bool in_order(const std::vector<SentDatagram>& sent, uint32_t count, size_t size = 64) {
  if (sent.size() != count) return false;
  for (uint32_t i = 0; i < count; ++i) {
    if (sent[i].bytes != one_hop_later(numbered_packet(i, size))) return false;
    if (sent[i].destination != kNode2 || sent[i].port != 8285) return false;
  }
  return true;
}

inline uint64_t drops(const Direction& direction, DropReason reason) {
  return direction.counters().drops[static_cast<size_t>(reason)].get();
}

inline uint64_t all_drops(const Direction& direction) {
  uint64_t sum = 0;
  for (const Counter& counter : direction.counters().drops) sum += counter.get();
  return sum;
}

}  // namespace flannelette::test
