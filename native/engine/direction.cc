#include "engine/direction.h"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>

#include "core/bytes.h"
#include "sys/privileges.h"
#include "sys/thread_filter.h"

namespace flannelette {

namespace {

// How often the CPU is given away before a wait. With trains it depends on what came last: a train,
// or one packet, whose answer is often near.
constexpr int kYieldsWithoutTrains = 6;
constexpr int kYieldsAfterTrain = 1;
constexpr int kYieldsAfterOnePacket = 12;
// A turn that received no more had one packet.
constexpr uint64_t kOnePacketBytes = 1500;

// How long a direction rests when poll keeps calling for turns in vain.
constexpr int kRestMs = 20;
// Polls interrupted one after another before the loop sleeps in between.
constexpr int kInterruptedPollsMax = 4;

constexpr uint64_t kMs = 1'000'000;
// Milliseconds until then; rounded up.
int ms_until(uint64_t end, uint64_t now) {
  return now >= end ? 0 : static_cast<int>((end - now + kMs - 1) / kMs);
}

// The shorter of two times, 0 being none.
int sooner(int a, int b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

// Two turns of one thread as one.
Turn both(const Turn& a, const Turn& b) {
  return {.progress = a.progress || b.progress,
          .more = a.more || b.more,
          .tun = static_cast<short>(a.tun | b.tun),
          .udp = static_cast<short>(a.udp | b.udp),
          .send_fd = std::max(a.send_fd, b.send_fd),
          .rest_ms = sooner(a.rest_ms, b.rest_ms)};
}

}  // namespace

bool is_try_again(int number) { return number == EAGAIN || number == EINTR; }

bool is_final(int number) {
  // EBADFD: read or write on a TUN descriptor whose device was deleted.
  return number == EBADFD || number == EBADF || number == ENOTSOCK || number == ENODEV;
}

Direction::Direction(const DirectionContext& context, size_t reader, size_t ring_bytes,
                     size_t ring_records, size_t staging_bytes)
    : context_(context),
      memory_(ring_bytes + staging_bytes),
      ring_(memory_.bytes().first(ring_bytes), memory_.valid() ? ring_records : 1),
      reader_(reader) {
  counters_.ring_capacity.set(ring_.capacity());
}

void Direction::confine_thread() {
  // Refused by no kernel; and what it would leave, carrying packets has no use for.
  (void)drop_all_capabilities();
  if (!on(KernelFeature::kSeccomp)) return;
  if (const int number = filter_packet_thread(); number != 0)
    refuse(KernelFeature::kSeccomp, number);
}

void Direction::carry(Direction* other) {
  other_ = other;
  if (other_ != nullptr) other_->other_ = this;
  while (thread_running()) {
    const uint64_t before = received_bytes();
    Turn turn = take_turn();
    if (other_ != nullptr) turn = both(turn, other_->take_turn());
    if (turn.progress) {
      yields_ = 0;
      several_ = received_bytes() - before > kOnePacketBytes;
    }
    if (turn.more || !thread_running() || linger(turn)) continue;
    (void)poll(turn, -1);
  }
  finish();
  if (other_ != nullptr) other_->finish();
  leave_tables();
}

Turn Direction::take_turn() {
  if (!running() || taking_turn_) return {};
  if (rest_until_ != 0) {
    const int left_ms = ms_until(rest_until_, context_.io.now_ns());
    if (left_ms > 0) return {.rest_ms = left_ms};
    // What it asked for last is as good as ever; poll says whether it is there.
    rest_until_ = 0;
    return asked_;
  }
  taking_turn_ = true;
  asked_ = turn();
  taking_turn_ = false;
  const bool roused = std::exchange(roused_, false);
  if (asked_.progress) return asked_;
  // Idle beside a busy one, it must not hold an old table back.
  context_.table.leave(reader_);
  if (!roused) return asked_;
  const uint64_t now = context_.io.now_ns();
  if (vain_turns_.take(now)) return asked_;
  rest_until_ = now + kRestMs * kMs;
  return {.rest_ms = kRestMs};
}

bool Direction::linger(const Turn& turn) {
  const bool blocked = turn.send_fd >= 0 || (turn.tun & POLLOUT) != 0;
  if (blocked || yields_ >= yields_max()) return false;
  ++yields_;
  context_.io.yield();
  return true;
}

uint64_t Direction::received_bytes() const {
  const uint64_t own = counters_.received_bytes.get();
  return other_ == nullptr ? own : own + other_->counters_.received_bytes.get();
}

int Direction::yields_max() const {
  if (context_.mode == Mode::kBasic || context_.one_cpu) return 0;
  const bool trains = context_.vnet_header && on(KernelFeature::kUdpGro);
  if (!trains) return kYieldsWithoutTrains;
  return several_ ? kYieldsAfterTrain : kYieldsAfterOnePacket;
}

void Direction::wait(short tun_events, int timeout_ms) {
  const uint64_t end = context_.io.now_ns() + static_cast<uint64_t>(timeout_ms) * kMs;
  int left_ms = timeout_ms;
  while (running() && left_ms > 0) {
    const Turn theirs = other_ == nullptr ? Turn{} : other_->take_turn();
    if (!running()) return;
    const auto had = poll(both(theirs, {.tun = tun_events}), theirs.more ? 0 : left_ms);
    if (had && tun_events != 0 && (*had & (tun_events | POLLERR | POLLHUP)) != 0) return;
    left_ms = ms_until(end, context_.io.now_ns());
  }
}

std::optional<short> Direction::poll(const Turn& turn, int timeout_ms) {
  leave_tables();
  woken_ = true;
  if (other_ != nullptr) other_->woken_ = true;
  pollfd fds[4] = {{context_.stop_fd, POLLIN, 0}, {-1, 0, 0}, {-1, 0, 0}, {-1, 0, 0}};
  // A negative descriptor is not watched, not even for errors.
  if (turn.tun != 0) fds[1] = {context_.tun_fd, turn.tun, 0};
  if (turn.udp != 0) fds[2] = {context_.udp_fd, turn.udp, 0};
  if (turn.send_fd >= 0) fds[3] = {turn.send_fd, POLLOUT, 0};
  counters_.poll_calls.add(1);
  const bool rests = turn.rest_ms > 0 && (timeout_ms < 0 || turn.rest_ms < timeout_ms);
  const int ready = context_.io.poll(fds, 4, rests ? turn.rest_ms : timeout_ms);
  if (ready < 0) {
    // Out of memory, a limit, or interrupted all the time: a loop that cannot wait must not spin.
    if (ready != -EINTR || ++failed_polls_ > kInterruptedPollsMax) context_.io.sleep_ms(kRestMs);
    return std::nullopt;
  }
  failed_polls_ = 0;
  // POLLERR without data is how a deleted TUN shows; the device's queue cannot come back.
  if ((fds[1].revents & (POLLERR | POLLNVAL)) != 0 && (fds[1].revents & POLLIN) == 0)
    fault(FaultSource::kTun, EBADFD);
  if (((fds[2].revents | fds[3].revents) & POLLNVAL) != 0) fault(FaultSource::kUdp, EBADF);
  if (ready == 0) return std::nullopt;
  note_ready(fds);
  if (other_ != nullptr) other_->note_ready(fds);
  return fds[1].revents;
}

void Direction::note_ready(const pollfd (&fds)[4]) {
  // In the midst of a turn it waits for something else.
  if (taking_turn_) return;
  roused_ = (asked_.tun != 0 && fds[1].revents != 0) || (asked_.udp != 0 && fds[2].revents != 0) ||
            (asked_.send_fd >= 0 && fds[3].revents != 0);
}

void Direction::leave_tables() {
  context_.table.leave(reader_);
  if (other_ != nullptr) context_.table.leave(other_->reader_);
}

void Direction::fault(FaultSource source, int number) {
  ended_ = true;
  if (!context_.events.write(
          {EventType::kFault, static_cast<uint32_t>(number), static_cast<uint32_t>(source), 0}))
    counters_.events_lost.add(1);
}

void Direction::refuse(KernelFeature feature, int number) {
  if (!context_.features.refuse(feature, number)) return;
  if (!context_.events.write({EventType::kFeatureRefused, static_cast<uint32_t>(number),
                              static_cast<uint32_t>(feature), 0}))
    counters_.events_lost.add(1);
}

void Direction::send_icmp_error(IcmpError error, const Ipv4Packet& original, uint16_t mtu) {
  if (!may_send_icmp_error(original, context_.overlay) || !icmp_limit_.take(monotonic_ns())) {
    counters_.icmp_suppressed.add(1);
    return;
  }
  const uint32_t source = icmp_error_source(original.source(), context_.own, context_.tun_address);
  const size_t length = build_icmp_error(error, original, source, icmp_, mtu);
  const auto packet = std::span(icmp_).first(length);
  if (send_raw(context_.io, context_.raw_fd, original.source(), packet) < 0) {
    counters_.icmp_suppressed.add(1);
  } else if (error == IcmpError::kTimeExceeded) {
    counters_.icmp_time_exceeded.add(1);
  } else if (error == IcmpError::kFragNeeded) {
    counters_.icmp_frag_needed.add(1);
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
