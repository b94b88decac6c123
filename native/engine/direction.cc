#include "engine/direction.h"

#include <netinet/in.h>

#include <cerrno>
#include <ctime>

#include "core/bytes.h"
#include "sys/address.h"

namespace flannelette {

uint64_t monotonic_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000ULL + static_cast<uint64_t>(now.tv_nsec);
}

bool is_final(int number) {
  // EBADFD: read or write on a TUN descriptor whose device was deleted.
  return number == EBADFD || number == EBADF || number == ENOTSOCK || number == ENODEV;
}

Direction::Direction(const DirectionContext& context, TableReader reader, size_t ring_bytes,
                     size_t ring_records, size_t staging_bytes)
    : context_(context),
      memory_(ring_bytes + staging_bytes),
      ring_(memory_.bytes().first(ring_bytes), ring_records),
      reader_(reader) {}

void Direction::wait(short tun_events, short udp_events, int timeout_ms) {
  context_.table.leave(reader_);
  yields_ = 0;
  pollfd fds[3] = {{context_.stop_fd, POLLIN, 0}, {-1, 0, 0}, {-1, 0, 0}};
  // A negative descriptor is not watched, not even for errors.
  if (tun_events != 0) fds[1] = {context_.tun_fd, tun_events, 0};
  if (udp_events != 0) fds[2] = {context_.udp_fd, udp_events, 0};
  counters_.poll_calls.add(1);
  const int ready = context_.io.poll(fds, 3, timeout_ms);
  if (ready < 0 && ready != -EINTR) {
    // Out of memory, or a limit: a loop that cannot wait must not spin instead.
    const timespec pause{0, 10'000'000};
    ::nanosleep(&pause, nullptr);
    return;
  }
  // POLLERR without data is how a deleted TUN shows; the device's queue cannot come back.
  if ((fds[1].revents & (POLLERR | POLLNVAL)) != 0 && (fds[1].revents & POLLIN) == 0)
    fault(FaultSource::kTun, EBADFD);
  if ((fds[2].revents & POLLNVAL) != 0) fault(FaultSource::kUdp, EBADF);
}

bool Direction::linger() {
  constexpr int kYieldsMax = 6;
  if (context_.mode == Mode::kBasic || yields_ == kYieldsMax) return false;
  ++yields_;
  context_.io.yield();
  return true;
}

void Direction::fault(FaultSource source, int number) {
  ended_ = true;
  if (!context_.events.write(
          {EventType::kFault, static_cast<uint32_t>(number), static_cast<uint32_t>(source), 0}))
    counters_.events_lost.add(1);
}

void Direction::refuse(KernelFeature feature, int number) {
  if (!context_.features.refuse(feature, number)) return;
  if (!context_.events.write(
          {EventType::kRefusal, static_cast<uint32_t>(number), static_cast<uint32_t>(feature), 0}))
    counters_.events_lost.add(1);
}

void Direction::answer(IcmpError error, const Ipv4Packet& offender) {
  if (!may_answer(offender, context_.overlay) || !icmp_limit_.take(monotonic_ns())) {
    counters_.icmp_suppressed.add(1);
    return;
  }
  const size_t length = build_icmp_error(error, offender, context_.tun_address, icmp_);
  sockaddr_in to = socket_address(offender.source(), 0);
  iovec bytes{icmp_.data(), length};
  msghdr message{};
  message.msg_name = &to;
  message.msg_namelen = sizeof(to);
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (context_.io.sendmsg(context_.raw_fd, &message) < 0) {
    counters_.icmp_suppressed.add(1);
  } else if (error == IcmpError::kTimeExceeded) {
    counters_.icmp_time_exceeded.add(1);
  } else {
    counters_.icmp_unreachable.add(1);
  }
}

void Direction::drop_faulty(PacketFault fault) {
  switch (fault) {
    case PacketFault::kNone:
      break;
    case PacketFault::kShort:
      counters_.drop(DropReason::kShort);
      break;
    case PacketFault::kBadVersion:
      counters_.drop(DropReason::kBadVersion);
      break;
    case PacketFault::kBadHeader:
      counters_.drop(DropReason::kBadHeader);
      break;
    case PacketFault::kBadLength:
      counters_.drop(DropReason::kBadLength);
      break;
    case PacketFault::kBadChecksum:
      counters_.drop(DropReason::kBadChecksum);
      break;
  }
}

void Direction::note_ring() {
  const uint64_t used = ring_.used_bytes();
  counters_.ring_bytes.set(used);
  if (used > counters_.ring_high_water.get()) counters_.ring_high_water.set(used);
}

}  // namespace flannelette
