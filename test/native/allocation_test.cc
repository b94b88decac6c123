// The hot path allocates nothing: operator new is counted while packets pass through both loops,
// good ones and bad ones, with answers and events.
#include <doctest/doctest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>

#include "core/coalesce.h"
#include "core/segment.h"
#include "engine/decapsulation.h"
#include "engine/encapsulation.h"
#include "scripted_io.h"

namespace {

std::atomic<size_t> allocations{0};

void* counted(size_t bytes, size_t alignment) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* out = nullptr;
  if (alignment <= alignof(std::max_align_t)) {
    out = std::malloc(bytes == 0 ? 1 : bytes);
  } else if (::posix_memalign(&out, alignment, bytes) != 0) {
    out = nullptr;
  }
  if (out == nullptr) std::abort();
  return out;
}

}  // namespace

// Not inlined: the compiler would take free() for the wrong partner of new.
[[gnu::noinline]] void* operator new(size_t bytes) { return counted(bytes, 1); }
[[gnu::noinline]] void* operator new[](size_t bytes) { return counted(bytes, 1); }
[[gnu::noinline]] void* operator new(size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<size_t>(alignment));
}
[[gnu::noinline]] void* operator new[](size_t bytes, std::align_val_t alignment) {
  return counted(bytes, static_cast<size_t>(alignment));
}
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept {
  return counted(bytes, 1);
}
[[gnu::noinline]] void* operator new[](size_t bytes, const std::nothrow_t&) noexcept {
  return counted(bytes, 1);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, size_t, std::align_val_t) noexcept {
  std::free(p);
}
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }

namespace flannelette::test {

namespace {

// A kernel that hands out the same few packets again and again and allocates nothing itself.
class FloodIo final : public Io {
 public:
  FloodIo(std::span<const Bytes> packets, size_t count, std::atomic<bool>& stop)
      : packets_(packets), left_(count), stop_(stop) {}

  size_t delivered = 0;  // to the UDP socket or the TUN
  size_t answered = 0;   // ICMP

  ssize_t read(int, void* buffer, size_t) override { return next(buffer); }
  ssize_t write(int, const void*, size_t bytes) override {
    ++delivered;
    return static_cast<ssize_t>(bytes);
  }
  ssize_t readv(int, const iovec* pieces, int) override {
    std::memset(pieces[0].iov_base, 0, pieces[0].iov_len);
    const ssize_t length = next(pieces[1].iov_base);
    return length < 0 ? length : length + static_cast<ssize_t>(pieces[0].iov_len);
  }
  ssize_t writev(int, const iovec*, int count) override {
    // A train of several has a piece for each packet behind the headers.
    delivered += count == 2 ? 1 : static_cast<size_t>(count) - 1;
    return 1;
  }
  ssize_t recvmsg(int, msghdr* message) override { return receive(*message); }
  int recvmmsg(int, mmsghdr* messages, unsigned count) override {
    int n = 0;
    for (; static_cast<unsigned>(n) < count; ++n) {
      const ssize_t length = receive(messages[n].msg_hdr);
      if (length < 0) return n == 0 ? static_cast<int>(length) : n;
      messages[n].msg_len = static_cast<unsigned>(length);
    }
    return n;
  }
  ssize_t sendmsg(int fd, const msghdr* message) override {
    if (fd == kRawFd) {
      ++answered;
    } else {
      delivered += packets_of(*message);
    }
    return static_cast<ssize_t>(message->msg_iov[0].iov_len);
  }
  int sendmmsg(int, mmsghdr* messages, unsigned count) override {
    // Every second send is a partial one.
    partial_ = !partial_;
    const unsigned taken = partial_ && count > 1 ? count / 2 : count;
    for (unsigned i = 0; i < taken; ++i) delivered += packets_of(messages[i].msg_hdr);
    return static_cast<int>(taken);
  }
  int poll(pollfd* fds, nfds_t count, int) override {
    for (nfds_t i = 0; i < count; ++i) fds[i].revents = fds[i].fd < 0 ? short{0} : fds[i].events;
    if (left_ == 0) stop_ = true;
    return 1;
  }

 private:
  // Datagrams the kernel would make of a message.
  static size_t packets_of(const msghdr& message) {
    if (message.msg_controllen == 0) return 1;
    uint16_t size = 0;
    std::memcpy(&size, CMSG_DATA(static_cast<const cmsghdr*>(message.msg_control)), sizeof(size));
    return (message.msg_iov[0].iov_len + size - 1) / size;
  }
  ssize_t next(void* buffer) {
    if (left_ == 0) return -EAGAIN;
    if (--left_ % 100 == 0) return -EAGAIN;
    const Bytes& packet = packets_[left_ % packets_.size()];
    std::memcpy(buffer, packet.data(), packet.size());
    return static_cast<ssize_t>(packet.size());
  }
  ssize_t receive(msghdr& message) {
    const sockaddr_in from = socket_address(kNode2, 8285);
    std::memcpy(message.msg_name, &from, sizeof(from));
    message.msg_flags = 0;
    message.msg_controllen = 0;
    return next(message.msg_iov[0].iov_base);
  }

  std::span<const Bytes> packets_;
  size_t left_;
  std::atomic<bool>& stop_;
  bool partial_ = false;
};

template <typename T>
void check_no_allocation(Mode mode, std::span<const Bytes> packets) {
  constexpr size_t kCount = 20000;
  Rig rig;
  FloodIo io(packets, kCount, rig.io.stop);
  T direction(rig.context(mode, true, &io));
  const size_t before = allocations.load();
  direction.carry();
  const size_t made = allocations.load() - before;
  CHECK(made == 0);
  CHECK(io.delivered > kCount / 10);
  CHECK(io.answered > 0);
  CHECK(io.delivered + all_drops(direction) == direction.counters().received_packets.get());
}

}  // namespace

TEST_CASE("allocations are counted at all") {
  const size_t before = allocations.load();
  const auto made = std::make_unique<Bytes>(10);
  CHECK(made->size() == 10);
  CHECK(allocations.load() - before >= 2);
}

TEST_CASE("encapsulation allocates nothing per packet") {
  const std::vector<Bytes> packets = {numbered_packet(1, 1472),
                                      numbered_packet(2, 64),
                                      numbered_packet(3, 64, {.destination = kContainer3}),
                                      numbered_packet(4, 64, {.ttl = 1}),
                                      numbered_packet(5, 64, {.destination = ip(100, 96, 9, 9)}),
                                      Bytes(40, 0x60)};
  check_no_allocation<Encapsulation>(Mode::kBasic, packets);
  check_no_allocation<Encapsulation>(Mode::kBatch, packets);
  check_no_allocation<Encapsulation>(Mode::kOffload, packets);
}

TEST_CASE("decapsulation allocates nothing per packet") {
  const PacketSpec good{.source = kContainer2, .destination = kContainer1};
  const std::vector<Bytes> packets = {
      numbered_packet(1, 1472, good),
      numbered_packet(2, 64, good),
      numbered_packet(3, 64, {.source = kContainer2, .destination = kContainer1, .ttl = 1}),
      numbered_packet(4, 64, {.source = kContainer3, .destination = kContainer1}),
      numbered_packet(5, 64, {.source = kContainer2, .destination = kContainer3}),
      Bytes(19, 0x45)};
  check_no_allocation<Decapsulation>(Mode::kBasic, packets);
  check_no_allocation<Decapsulation>(Mode::kBatch, packets);
  check_no_allocation<Decapsulation>(Mode::kOffload, packets);
}

TEST_CASE("segmentation allocates nothing per packet") {
  Bytes packet = make_packet({.protocol = 17, .payload = Bytes(60008, 1)});
  const VirtioNetHeader header{.gso_type = kGsoUdpL4, .gso_size = 1444};
  const VirtioNetHeader partial{
      .flags = kNeedsChecksum, .checksum_start = 20, .checksum_offset = 6};
  Bytes out(100000);
  size_t written = 0;
  const size_t before = allocations.load();
  for (int i = 0; i < 20; ++i) {
    Ipv4Packet view;
    SegmentPlan plan;
    if (Ipv4Packet::parse(packet, view) != PacketFault::kNone) continue;
    if (SegmentPlan::make(header, view, plan) != SegmentFault::kNone) continue;
    plan.write(out);
    written += plan.count();
    if (complete_checksum(partial, view) != SegmentFault::kNone) written = 0;
  }
  const size_t made = allocations.load() - before;
  CHECK(made == 0);
  CHECK(written == 20 * 42);
}

TEST_CASE("coalesce: nothing is allocated per packet or per batch") {
  Coalescer coalescer({}, 64);
  std::vector<Bytes> packets;
  std::vector<Ipv4Packet> views(64);
  for (uint32_t i = 0; i < views.size(); ++i)
    packets.push_back(numbered_packet(i, 64 + i, {.protocol = static_cast<uint8_t>(i % 20)}));
  for (size_t i = 0; i < views.size(); ++i) {
    REQUIRE(Ipv4Packet::parse(packets[i], views[i]) == PacketFault::kNone);
  }
  TunHeader header;
  std::array<Piece, kPiecesMax> pieces;
  size_t gathered = 0;
  const size_t before = allocations.load();
  for (int round = 0; round < 10; ++round) {
    for (const Ipv4Packet& view : views) coalescer.add(view);
    for (size_t i = 0; i < coalescer.size(); ++i)
      gathered += coalescer.gather(i, header, pieces) + coalescer.originals(i, pieces);
    coalescer.clear();
  }
  CHECK(allocations.load() - before == 0);
  CHECK(gathered >= 10 * 64);
}

}  // namespace flannelette::test
