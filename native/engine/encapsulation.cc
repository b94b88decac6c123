#include "engine/encapsulation.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "core/fragment.h"

namespace flannelette {

namespace {

// Packets the ring may hold; a packet of 64 KiB in segments of the smallest size TCP has (48 bytes,
// TCP_MIN_SND_MSS) is 1,365 of them.
size_t ring_records(size_t bytes) { return std::bit_ceil(bytes / 256); }
// Enough for a train or two: more would only push what was read out of the cache before it is sent.
constexpr size_t kFillBytes = size_t{128} * 1024;

// How long trains to a next hop that refuses them are not tried.
constexpr uint64_t kAvoidNs = 10'000'000'000;

// A socket for each source port, the tunnel's own first.
std::vector<int> send_fds(const DirectionContext& context) {
  std::vector<int> fds = {context.udp_fd};
  fds.insert(fds.end(), context.source_fds.begin(), context.source_fds.end());
  return fds;
}

}  // namespace

Encapsulation::Encapsulation(const DirectionContext& context)
    : Direction(context, encapsulation_reader(context.pair), context.ring_bytes,
                ring_records(context.ring_bytes),
                // A packet, and one of its segments that has to be fragmented.
                context.vnet_header ? 2 * ip::kPacketMax : 0),
      misses_(context_.events, EventType::kMiss),
      sender_(context_.io, send_fds(context_), context_.port) {}

Turn Encapsulation::turn() {
  // In bytes: a TUN that has nothing to give but says it has makes no progress.
  const uint64_t received = counters_.received_bytes.get();
  const Fill filled = fill();
  if (!in_service()) return {};
  const size_t held = ring_.size();
  const Drain drained = drain();
  const bool progress = counters_.received_bytes.get() != received || ring_.size() != held;
  if (drained == Drain::kDone)
    return {.progress = progress, .more = progress && filled != Fill::kTunEmpty, .tun = POLLIN};
  // Reads on only while there is room for what comes.
  const short tun = filled == Fill::kTunEmpty ? POLLIN : 0;
  return {.progress = progress,
          .more = progress && filled == Fill::kMore,
          .tun = tun,
          .send_fd = sender_.front_fd(ring_)};
}

void Encapsulation::finish() {
  if (ring_.empty() && staged_hop_ == 0) return;
  // A socket that takes nothing loses what waits for it.
  if (!in_service() || drain() != Drain::kDone) return;
  // One that had no room in the ring.
  if (staged_hop_ != 0 && place()) (void)drain();
}

Encapsulation::Fill Encapsulation::fill_bare() {
  const ForwardingTable& routes = table();
  const size_t limit = turn_limit();
  for (size_t i = 0; i < limit; ++i) {
    const auto space = ring_.reserve(ip::kPacketMax);
    if (space.empty()) return Fill::kRingFull;
    counters_.read_calls.add(1);
    const ssize_t received = context_.io.read(context_.tun_fd, space.data(), space.size());
    if (received < 0) return nothing_read(static_cast<int>(-received));
    counters_.received_packets.add(1);
    counters_.received_bytes.add(static_cast<uint64_t>(received));
    Ipv4Packet packet;
    const PacketFault faulty =
        Ipv4Packet::parse(space.first(static_cast<size_t>(received)), packet);
    if (faulty != PacketFault::kNone) {
      drop_faulty(faulty);
      continue;
    }
    const size_t length = packet.bytes().size();
    const uint32_t next_hop = admit(packet, {1, length}, routes);
    if (next_hop == 0) continue;
    if (length <= limit_) {
      ring_.commit(0, length, length, next_hop, port_);
    } else {
      const FragmentPlan fragments(packet, limit_);
      if (fragments.bytes() > space.size() || fragments.count() > ring_.records_free()) {
        counters_.drop(DropReason::kOversize);
      } else {
        (void)place_fragments(packet, limit_, space, 0, next_hop);
      }
    }
  }
  return Fill::kMore;
}

Encapsulation::Fill Encapsulation::fill_staged() {
  const ForwardingTable& routes = table();
  if (staged_hop_ != 0 && !place()) return Fill::kRingFull;
  size_t filled = 0;
  const size_t limit = turn_limit();
  for (size_t i = 0; i < limit && filled < kFillBytes; ++i) {
    iovec pieces[2] = {{&header_, sizeof(header_)}, {staging().data(), ip::kPacketMax}};
    counters_.read_calls.add(1);
    const ssize_t received = context_.io.readv(context_.tun_fd, pieces, 2);
    if (received < 0) return nothing_read(static_cast<int>(-received));
    const size_t length = static_cast<size_t>(received);
    if (!stage(length < sizeof(header_) ? 0 : length - sizeof(header_), routes)) continue;
    if (!place()) return Fill::kRingFull;
    filled += staged_bytes_;
  }
  return Fill::kMore;
}

Encapsulation::Fill Encapsulation::nothing_read(int number) {
  if (is_final(number)) {
    fault(FaultSource::kTun, number);
  } else if (!is_try_again(number)) {
    back_off();
  }
  return Fill::kTunEmpty;
}

bool Encapsulation::stage(size_t received, const ForwardingTable& table) {
  const std::span<uint8_t> bytes = staging().first(received);
  Ipv4Packet packet;
  const PacketFault faulty = Ipv4Packet::parse(bytes, packet);
  if (faulty != PacketFault::kNone) {
    counters_.received_packets.add(1);
    counters_.received_bytes.add(received);
    drop_faulty(faulty);
    return false;
  }
  staged_large_ = header_.gso_type != kGsoNone;
  staged_length_ = packet.bytes().size();
  const SegmentFault bad = staged_large_ ? SegmentPlan::make(header_, packet, plan_)
                                         : complete_checksum(header_, packet);
  if (bad != SegmentFault::kNone) {
    counters_.received_packets.add(1);
    counters_.received_bytes.add(received);
    counters_.drop(DropReason::kBadOffload);
    return false;
  }
  const size_t count = staged_large_ ? plan_.count() : 1;
  staged_bytes_ = staged_large_ ? plan_.bytes() : packet.bytes().size();
  counters_.received_packets.add(count);
  counters_.received_bytes.add(staged_bytes_);
  const size_t longest = staged_large_ ? plan_.length() : staged_bytes_;
  const bool resegments = staged_large_ && packet.protocol() == protocol::kTcp;
  const uint32_t next_hop = admit(packet, {count, longest, resegments}, table);
  if (next_hop == 0) return false;
  staged_records_ = count;
  staged_limit_ = 0;
  if (longest > limit_) cut_staged(packet);
  if (staged_bytes_ > ring_.capacity() || staged_records_ > ring_.records()) {
    counters_.drop(DropReason::kOversize, count);
    return false;
  }
  staged_hop_ = next_hop;
  return true;
}

void Encapsulation::cut_staged(const Ipv4Packet& packet) {
  if (staged_large_ && packet.protocol() == protocol::kTcp) {
    // Headers are 120 bytes at most, less than any limit.
    const size_t headers =
        packet.header_length() + size_t{packet.payload()[tcp::kDataOffset]} / 16 * 4;
    header_.gso_size = static_cast<uint16_t>(limit_ - headers);
    if (SegmentPlan::make(header_, packet, plan_) != SegmentFault::kNone) return;
    staged_bytes_ = plan_.bytes();
    staged_records_ = plan_.count();
    return;
  }
  staged_limit_ = limit_;
  const auto count_in = [&](size_t length, size_t times) {
    const size_t header = packet.header_length();
    const size_t fragments =
        length <= limit_ ? 1 : (length - header - 1) / ((limit_ - header) / 8 * 8) + 1;
    staged_records_ += fragments * times;
    staged_bytes_ += (length + (fragments - 1) * header) * times;
  };
  const size_t segments = staged_large_ ? plan_.count() : 1;
  const size_t last = staged_large_ ? plan_.last_length() : staged_bytes_;
  staged_records_ = staged_bytes_ = 0;
  if (segments > 1) count_in(plan_.length(), segments - 1);
  count_in(last, 1);
}

size_t Encapsulation::place_fragments(const Ipv4Packet& packet, size_t limit,
                                      std::span<uint8_t> space, size_t at, uint32_t next_hop) {
  const FragmentPlan fragments(packet, limit);
  fragments.write(space.subspan(at, fragments.bytes()));
  for (size_t i = 0; i < fragments.count(); ++i) {
    const size_t length = i + 1 < fragments.count() ? fragments.length() : fragments.last_length();
    ring_.commit(at, length, at + length, next_hop, port_);
    at += length;
  }
  return at;
}

bool Encapsulation::place() {
  const size_t count = staged_large_ ? plan_.count() : 1;
  if (ring_.records_free() < staged_records_) return false;
  const auto space = ring_.reserve(staged_bytes_);
  if (space.empty()) return false;
  if (staged_limit_ != 0 && staged_large_) {
    const std::span<uint8_t> scratch = staging().subspan(ip::kPacketMax);
    for (size_t i = 0, at = 0; i < count; ++i) {
      const std::span<uint8_t> segment = scratch.first(plan_.bytes(i, 1));
      plan_.write(i, 1, segment);
      at = place_fragments(Ipv4Packet::parsed(segment), staged_limit_, space, at, staged_hop_);
    }
  } else if (staged_limit_ != 0) {
    const Ipv4Packet packet = Ipv4Packet::parsed(staging().first(staged_length_));
    (void)place_fragments(packet, staged_limit_, space, 0, staged_hop_);
  } else if (staged_large_) {
    plan_.write(space);
    for (size_t i = 0, at = 0; i < count; ++i, at += plan_.length()) {
      const size_t length = i + 1 < count ? plan_.length() : plan_.last_length();
      ring_.commit(at, length, at + length, staged_hop_, port_);
    }
  } else {
    std::memcpy(space.data(), staging().data(), staged_bytes_);
    ring_.commit(0, staged_bytes_, staged_bytes_, staged_hop_, port_);
  }
  staged_hop_ = 0;
  return true;
}

uint32_t Encapsulation::admit(Ipv4Packet& packet, const Load& load, const ForwardingTable& table) {
  const uint32_t next_hop = table.lookup(packet.destination());
  if (next_hop == 0) {
    counters_.drop(DropReason::kNoRoute, load.packets);
    send_icmp_error(IcmpError::kNetUnreachable, packet);
    misses_.report(packet.destination(), monotonic_ns(), counters_);
    return 0;
  }
  if (packet.ttl() <= 1) {
    counters_.drop(DropReason::kTtlExceeded, load.packets);
    send_icmp_error(IcmpError::kTimeExceeded, packet);
    return 0;
  }
  limit_ = limit_to(next_hop, load.longest);
  if (load.longest > limit_ && !load.resegments && forbids_fragments(packet)) {
    counters_.drop(DropReason::kPathMtu, load.packets);
    send_icmp_error(IcmpError::kFragNeeded, packet, static_cast<uint16_t>(limit_));
    return 0;
  }
  packet.decrement_ttl();
  port_ = sender_.port_for(packet);
  return next_hop;
}

size_t Encapsulation::limit_to(uint32_t next_hop, size_t length) {
  if (length <= PathMtuTable::kAlwaysFits || context_.path_mtus == nullptr) return ip::kPacketMax;
  const size_t known = context_.path_mtus->use(next_hop);
  if (known != 0) return known;
  if (context_.path_mtus->want(next_hop)) (void)::eventfd_write(context_.path_mtu_fd, 1);
  return ip::kPacketMax;
}

Encapsulation::Drain Encapsulation::drain() {
  note_ring();
  if (sender_.avoids_any()) sender_.revise(monotonic_ns());
  while (!ring_.empty() && in_service()) {
    counters_.write_calls.add(1);
    const TrainSender::Limits limits = {batch_limit(), on(KernelFeature::kMmsg),
                                        on(KernelFeature::kUdpGso)};
    const TrainSender::Outcome outcome = sender_.send(ring_, limits);
    if (outcome.packets > 0) {
      counters_.sent_packets.add(outcome.packets);
      counters_.sent_bytes.add(outcome.bytes);
      note_batch(outcome.packets);
      ring_.release(outcome.packets);
    } else if (is_try_again(-outcome.error)) {
      return Drain::kBlocked;
    } else {
      refused(outcome, limits);
    }
  }
  counters_.ring_bytes.set(0);
  return Drain::kDone;
}

void Encapsulation::refused(const TrainSender::Outcome& outcome,
                            const TrainSender::Limits& limits) {
  const int number = -outcome.error;
  // By what the call was, not by the switch: another thread may have turned that off meanwhile.
  if (number == ENOSYS && limits.mmsg) return refuse(KernelFeature::kMmsg, number);
  if (outcome.front > 1) {
    if (number == EIO) return refuse(KernelFeature::kUdpGso, number);
    if (number == EINVAL || number == EMSGSIZE)
      return sender_.avoid_trains(ring_.peek(0).next_hop, monotonic_ns() + kAvoidNs);
  }
  if (is_final(number)) fault(FaultSource::kUdp, number);
  counters_.drop(reason_for(number), outcome.front);
  ring_.release(outcome.front);
}

DropReason Encapsulation::reason_for(int number) {
  switch (number) {
    case ENOBUFS:
    case ENOMEM:
      return DropReason::kSendBufferFull;
    case EPERM:
    case EACCES:
      return DropReason::kSendRefused;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
      return DropReason::kSendUnreachable;
    case EMSGSIZE:
      return DropReason::kSendTooBig;
    default:
      return DropReason::kSendFailed;
  }
}

}  // namespace flannelette
