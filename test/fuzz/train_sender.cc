// Fuzz target: any packets in the ring, any outcome of the sends. Every message keeps the kernel's
// limits (UDP_MAX_SEGMENTS, the greatest payload, segments of one length but the last), and the
// datagrams are the packets of the ring, in order, by the port and to the host each is for.
//
// Input: source ports and limits (2 bytes), then packets: next hop and port (1 byte), length
// (2 bytes), room behind it and result of a send (1 byte).
#include "engine/train_sender.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <vector>

#include "../native/packets.h"
#include "sys/kernel.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

constexpr std::array<uint32_t, 3> kHosts = {kNode2, kNode3, kStranger};
constexpr int kFirstFd = 2001;
constexpr size_t kRing = size_t{512} * 1024;

struct Sent {
  int fd;
  uint32_t host;
  Bytes bytes;
};

// A kernel that checks what it is given, and takes as much of it as `results` say.
class CheckedIo final : public Io {
 public:
  std::deque<int> results;
  std::vector<Sent> sent;

  ssize_t sendmsg(int fd, const msghdr* message) override {
    const int result = next();
    if (result < 0) return result;
    return static_cast<ssize_t>(take(fd, *message));
  }
  int sendmmsg(int fd, mmsghdr* messages, unsigned count) override {
    require(count > 0 && count <= 64);
    const int result = next();
    if (result < 0) return result;
    const unsigned taken = std::min(count, static_cast<unsigned>(std::max(1, result)));
    for (unsigned i = 0; i < taken; ++i)
      messages[i].msg_len = static_cast<unsigned>(take(fd, messages[i].msg_hdr));
    return static_cast<int>(taken);
  }

  ssize_t read(int, void*, size_t) override { std::abort(); }
  ssize_t write(int, const void*, size_t) override { std::abort(); }
  ssize_t readv(int, const iovec*, int) override { std::abort(); }
  ssize_t writev(int, const iovec*, int) override { std::abort(); }
  ssize_t recvmsg(int, msghdr*) override { std::abort(); }
  int recvmmsg(int, mmsghdr*, unsigned) override { std::abort(); }
  int poll(pollfd*, nfds_t, int) override { std::abort(); }

 private:
  int next() {
    if (results.empty()) return 64;
    const int result = results.front();
    results.pop_front();
    return result;
  }

  size_t take(int fd, const msghdr& message) {
    require(message.msg_iovlen == 1 && message.msg_namelen == sizeof(sockaddr_in));
    sockaddr_in to{};
    std::memcpy(&to, message.msg_name, sizeof(to));
    require(to.sin_family == AF_INET && ntohs(to.sin_port) == 8285);
    const auto* bytes = static_cast<const uint8_t*>(message.msg_iov[0].iov_base);
    const size_t length = message.msg_iov[0].iov_len;
    const size_t segment = segment_of(message, length);
    require(length <= 65507);
    require(segment == length || (length + segment - 1) / segment <= 64);
    size_t at = 0;
    do {
      const size_t end = std::min(length, at + segment);
      sent.push_back({fd, ntohl(to.sin_addr.s_addr), Bytes(bytes + at, bytes + end)});
      at = end;
    } while (at < length);
    return length;
  }

  static size_t segment_of(const msghdr& message, size_t length) {
    if (message.msg_controllen == 0) return length;
    auto* control = CMSG_FIRSTHDR(&message);
    require(control != nullptr && control->cmsg_level == IPPROTO_UDP);
    require(control->cmsg_type == UDP_SEGMENT && control->cmsg_len == CMSG_LEN(sizeof(uint16_t)));
    uint16_t size = 0;
    std::memcpy(&size, CMSG_DATA(control), sizeof(size));
    // One that is not needed may be refused.
    require(size > 0 && size < length);
    return size;
  }
};

void fill(PacketRing& ring, const uint8_t* packet, size_t ports, std::vector<Sent>& expected) {
  const size_t length = 20 + (packet[1] * 256U + packet[2]) % ((packet[3] & 8) != 0 ? 9000 : 1500);
  const size_t behind = packet[3] & 3U;
  const auto space = ring.reserve(length + behind);
  if (space.empty() || ring.records_free() == 0) return;
  const uint32_t host = kHosts[packet[0] % kHosts.size()];
  const auto port = static_cast<uint16_t>(packet[0] / 8 % ports);
  for (size_t i = 0; i < length; ++i) space[i] = static_cast<uint8_t>(i * 31 + expected.size() * 7);
  ring.commit(0, length, length + behind, host, port);
  expected.push_back({kFirstFd + port, host, Bytes(space.begin(), space.begin() + length)});
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  CheckedIo io;
  std::vector<int> fds;
  for (size_t i = 0; i <= (data[0] & 3U); ++i) fds.push_back(kFirstFd + static_cast<int>(i));
  TrainSender sender(io, fds, 8285);
  TrainSender::Limits limits{
      .messages = 1 + data[1] % 64U, .mmsg = (data[0] & 4) != 0, .trains = (data[0] & 8) != 0};
  static std::vector<uint8_t> arena(kRing);
  PacketRing ring(arena, 1024);
  std::vector<Sent> expected;
  for (size_t at = 2; at + 4 <= size; at += 4) {
    fill(ring, data + at, fds.size(), expected);
    constexpr std::array<int, 8> kResults = {-EAGAIN, -EIO, -EINVAL, -ENOBUFS, 1, 2, 5, 64};
    if ((data[at + 3] & 4) != 0) io.results.push_back(kResults[data[at + 3] / 32U]);
  }

  size_t at = 0;  // of `expected`: the front of the ring
  uint64_t now = 1;
  while (!ring.empty()) {
    require(sender.front_fd(ring) == expected[at].fd);
    const size_t before = io.sent.size();
    const TrainSender::Outcome outcome = sender.send(ring, limits);
    require(outcome.front >= 1 && outcome.front <= kSendSegmentsMax);
    require(outcome.packets == io.sent.size() - before && outcome.packets <= ring.size());
    size_t bytes = 0;
    for (size_t i = 0; i < outcome.packets; ++i) {
      const Sent& sent = io.sent[before + i];
      const Sent& packet = expected[at + i];
      require(sent.fd == packet.fd && sent.host == packet.host && sent.bytes == packet.bytes);
      bytes += sent.bytes.size();
    }
    require(bytes == outcome.bytes);
    at += outcome.packets;
    ring.release(outcome.packets);
    if (outcome.error == -EIO) limits.trains = false;
    if (outcome.error == -EINVAL) sender.avoid_trains(expected[at].host, now + 3);
    // What the socket had no room for is dropped by the loop.
    if (outcome.error == -ENOBUFS) {
      at += outcome.front;
      ring.release(outcome.front);
    }
    sender.revise(now++);
  }
  require(at == expected.size());
  return 0;
}
