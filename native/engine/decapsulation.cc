#include "engine/decapsulation.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/segment.h"
#include "core/unfinished.h"
#include "sys/address.h"
#include "sys/kernel.h"

namespace flannelette {

namespace {

// The greatest datagram fits a slot, so none is ever cut. Memory beyond what datagrams fill is
// never touched. The stride is no power of two: slots at multiples of 64 KiB would share the same
// few cache sets.
constexpr size_t kSlotBytes = 65536;
constexpr size_t kSlotStride = kSlotBytes + 2112;
constexpr size_t kRingBytes = kBatchMax * kSlotStride;

// Messages of one receive when each may be a train: more would leave the cache before they are
// written.
constexpr size_t kTrainMessages = 16;
// UDP_MAX_SEGMENTS datagrams in each of them (128 since Linux 6.9).
constexpr size_t kRingRecords = kTrainMessages * 128;

// Trains refused one after another until none is tried any more.
constexpr int kRefusedTrainsMax = 8;

// Writes of one packet that a signal interrupts, one after another.
constexpr int kInterruptedMax = 3;

// How long a TUN that takes nothing may hold a packet up before it is dropped.
constexpr int kTunBlockedMs = 100;

CoalesceOptions coalesce_options(const FeatureSwitches& features) {
  return {features.on(KernelFeature::kTunTso), features.on(KernelFeature::kTunUso)};
}

// In a record's next_hop, which has no other use here.
constexpr uint32_t kFinished = 0;
constexpr uint32_t kUnfinished = 1;

// Bytes of each datagram in a message, from its UDP_GRO control message; all of it without one.
size_t datagram_length(const msghdr& message, size_t received) {
  for (const cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
       control = CMSG_NXTHDR(const_cast<msghdr*>(&message), const_cast<cmsghdr*>(control))) {
    if (control->cmsg_level != IPPROTO_UDP || control->cmsg_type != UDP_GRO) continue;
    int length = 0;
    if (control->cmsg_len < CMSG_LEN(sizeof(length))) continue;
    std::memcpy(&length, CMSG_DATA(control), sizeof(length));
    if (length > 0) return static_cast<size_t>(length);
  }
  return received;
}

}  // namespace

Decapsulation::Decapsulation(const DirectionContext& context)
    : Direction(context, decapsulation_reader(context.pair), kRingBytes, kRingRecords,
                ip::kPacketMax),
      refused_holders_(context_.events, EventType::kDatagramRefused, 1),
      refused_strangers_(context_.events, EventType::kDatagramRefused, 0),
      coalescer_(coalesce_options(context_.features)) {
  for (size_t i = 0; i < kBatchMax; ++i) {
    messages_[i] = {};
    messages_[i].msg_hdr.msg_name = &sources_[i];
    messages_[i].msg_hdr.msg_iov = &buffers_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

Turn Decapsulation::turn() {
  if (!fill()) return {.udp = POLLIN};
  drain();
  return {.progress = true, .more = true};
}

bool Decapsulation::fill() {
  const bool trains = on(KernelFeature::kUdpGro);
  const size_t count = trains ? kTrainMessages : batch_limit();
  slots_ = ring_.reserve(count * kSlotStride);
  counters_.read_calls.add(1);
  const bool mmsg = on(KernelFeature::kMmsg);
  const int received = receive(count, mmsg);
  if (received <= 0) {
    if (received != 0) receive_failed(-received, mmsg);
    return false;
  }
  const ForwardingTable& routes = table();
  for (size_t i = 0; i < static_cast<size_t>(received); ++i)
    admit_message(i, messages_[i].msg_len, routes);
  return true;
}

int Decapsulation::receive(size_t count, bool mmsg) {
  const bool trains = on(KernelFeature::kUdpGro);
  for (size_t i = 0; i < count; ++i) {
    buffers_[i] = {slots_.data() + i * kSlotStride, kSlotBytes};
    msghdr& header = messages_[i].msg_hdr;
    header.msg_namelen = sizeof(sources_[i]);
    header.msg_flags = 0;
    header.msg_control = trains ? controls_[i].bytes.data() : nullptr;
    header.msg_controllen = trains ? controls_[i].bytes.size() : 0;
  }
  if (mmsg)
    return context_.io.recvmmsg(context_.udp_fd, messages_.data(), static_cast<unsigned>(count));
  const ssize_t received = context_.io.recvmsg(context_.udp_fd, &messages_[0].msg_hdr);
  if (received < 0) return static_cast<int>(received);
  messages_[0].msg_len = static_cast<unsigned>(received);
  return 1;
}

void Decapsulation::receive_failed(int number, bool mmsg) {
  if (is_try_again(number)) return;
  // By what the call was, not by the switch: another thread may have turned that off meanwhile.
  if (number == ENOSYS && mmsg) return refuse(KernelFeature::kMmsg, number);
  // Errors of earlier sends may surface here (ICMP answers); each is reported once.
  if (is_final(number)) {
    fault(FaultSource::kUdp, number);
  } else {
    back_off();
  }
}

void Decapsulation::admit_message(size_t message, size_t received, const ForwardingTable& table) {
  if ((messages_[message].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
    counters_.received_packets.add(1);
    counters_.received_bytes.add(received);
    counters_.drop(DropReason::kOversize);
    return;
  }
  const uint32_t source = ntohl(sources_[message].sin_addr.s_addr);
  const size_t each = std::max<size_t>(1, datagram_length(messages_[message].msg_hdr, received));
  size_t at = 0;
  do {
    const size_t length = std::min(each, received - at);
    admit(message * kSlotStride + at, length, source, table);
    at += length;
  } while (at < received);
}

void Decapsulation::admit(size_t offset, size_t length, uint32_t outer_source,
                          const ForwardingTable& table) {
  counters_.received_packets.add(1);
  counters_.received_bytes.add(length);
  Ipv4Packet packet;
  const PacketFault faulty = Ipv4Packet::parse(slots_.subspan(offset, length), packet);
  if (faulty != PacketFault::kNone) {
    drop_faulty(faulty);
    return;
  }
  if (context_.source_check && !trusted(packet, outer_source, table)) return;
  if (packet.ttl() <= 1) {
    counters_.drop(DropReason::kTtlExceeded);
    send_icmp_error(IcmpError::kTimeExceeded, packet);
    return;
  }
  packet.decrement_ttl();
  if (ring_.records_free() == 0) {
    // More datagrams than the longest trains of today's kernels have.
    counters_.drop(DropReason::kOversize);
    return;
  }
  const size_t end = offset + packet.bytes().size();
  const bool finished = !unfinished_offload(packet, context_.mtu);
  ring_.commit(offset, packet.bytes().size(), end, finished ? kFinished : kUnfinished);
}

bool Decapsulation::trusted(const Ipv4Packet& packet, uint32_t outer_source,
                            const ForwardingTable& table) {
  const uint32_t holder = table.lookup(packet.source());
  // An address that no lease covers may be the sender's own. 0.0.0.0 is never a next hop, so it
  // matches nothing.
  const bool in_lease = holder != 0 && holder == outer_source;
  const bool own_address = holder == 0 && packet.source() == outer_source;
  const bool holds_lease = in_lease || table.has_next_hop(outer_source);
  if (!in_lease && !(own_address && holds_lease)) {
    counters_.drop(holds_lease ? DropReason::kSourceMismatch : DropReason::kUnknownSource);
  } else if (!context_.own.contains(packet.destination())) {
    counters_.drop(DropReason::kForeignDestination);
  } else {
    return true;
  }
  EventSource& refusals = holds_lease ? refused_holders_ : refused_strangers_;
  refusals.report(outer_source, monotonic_ns(), counters_);
  return false;
}

void Decapsulation::drain() {
  note_ring();
  if (!ring_.empty()) note_batch(ring_.size());
  if (context_.vnet_header) {
    drain_trains();
  } else {
    while (!ring_.empty() && in_service()) {
      const auto bytes = ring_.bytes(ring_.peek(0));
      if (ring_.peek(0).next_hop == kUnfinished) {
        write_unfinished(Ipv4Packet::parsed(bytes));
      } else {
        const iovec piece = {bytes.data(), bytes.size()};
        wrote(write_pieces(&piece, 1), 1, bytes.size());
      }
      ring_.release(1);
    }
  }
  counters_.ring_bytes.set(0);
}

void Decapsulation::drain_trains() {
  for (size_t i = 0; i < ring_.size() && in_service(); ++i) {
    const Ipv4Packet packet = Ipv4Packet::parsed(ring_.bytes(ring_.peek(i)));
    if (ring_.peek(i).next_hop == kUnfinished) {
      // Behind what came before it.
      write_trains();
      write_unfinished(packet);
      continue;
    }
    if (coalescer_.add(packet)) continue;
    write_trains();
    coalescer_.add(packet);
  }
  write_trains();
  ring_.release(ring_.size());
}

void Decapsulation::write_trains() {
  for (size_t train = 0; train < coalescer_.size() && in_service(); ++train) write_train(train);
  coalescer_.clear();
}

void Decapsulation::write_train(size_t train) {
  TunHeader header;
  std::array<Piece, kPiecesMax> pieces;
  const size_t count = coalescer_.gather(train, header, pieces);
  std::array<iovec, kPiecesMax> vectors;
  for (size_t i = 0; i < count; ++i)
    vectors[i] = {const_cast<void*>(pieces[i].base), pieces[i].length};
  const size_t packets = coalescer_.packets(train);
  const int number = write_pieces(vectors.data(), count);
  if (packets > 1) note_train(header.offload.gso_type, number);
  if (packets > 1 && number == EINVAL) {
    write_originals(train);
  } else {
    wrote(number, packets, coalescer_.bytes(train));
  }
}

void Decapsulation::note_train(uint8_t gso_type, int number) {
  const KernelFeature feature =
      gso_type == kGsoUdpL4 ? KernelFeature::kTunUso : KernelFeature::kTunTso;
  int& refused = refused_trains_[gso_type == kGsoUdpL4 ? 1 : 0];
  refused = number == EINVAL ? refused + 1 : 0;
  if (refused < kRefusedTrainsMax) return;
  refuse(feature, number);
  coalescer_.set_options(coalesce_options(context_.features));
}

void Decapsulation::write_originals(size_t train) {
  std::array<Piece, kTrainPacketsMax> pieces;
  const size_t count = coalescer_.originals(train, pieces);
  VirtioNetHeader header;
  for (size_t i = 0; i < count && in_service(); ++i) {
    const std::array<iovec, 2> vectors = {
        iovec{&header, sizeof(header)},
        iovec{const_cast<void*>(pieces[i].base), pieces[i].length},
    };
    wrote(write_pieces(vectors.data(), vectors.size()), 1, pieces[i].length);
  }
}

void Decapsulation::write_unfinished(const Ipv4Packet& packet) {
  const VirtioNetHeader offload =
      unfinished_offload(packet, context_.mtu).value_or(VirtioNetHeader{});
  int number = EINVAL;
  if (context_.vnet_header) {
    VirtioNetHeader header = offload;
    const std::array<iovec, 2> vectors = {
        iovec{&header, sizeof(header)},
        iovec{packet.bytes().data(), packet.bytes().size()},
    };
    number = write_pieces(vectors.data(), vectors.size());
  }
  // Also what a TUN with a virtio header does not take.
  if (number == EINVAL) number = write_finished(offload, packet);
  wrote(number, 1, packet.bytes().size());
}

int Decapsulation::write_finished(const VirtioNetHeader& offload, const Ipv4Packet& packet) {
  VirtioNetHeader header;
  const auto write_one = [&](std::span<uint8_t> bytes) {
    const std::array<iovec, 2> vectors = {
        iovec{&header, sizeof(header)},
        iovec{bytes.data(), bytes.size()},
    };
    return context_.vnet_header ? write_pieces(vectors.data(), 2) : write_pieces(&vectors[1], 1);
  };
  if (offload.gso_type == kGsoNone) {
    if (complete_checksum(offload, packet) != SegmentFault::kNone) return EINVAL;
    return write_one(packet.bytes());
  }
  SegmentPlan plan;
  if (SegmentPlan::make(offload, packet, plan) != SegmentFault::kNone) return EINVAL;
  for (size_t i = 0; i < plan.count(); ++i) {
    const auto segment = staging().first(plan.bytes(i, 1));
    plan.write(i, 1, segment);
    if (const int number = write_one(segment); number != 0) return number;
  }
  return 0;
}

int Decapsulation::write_pieces(const iovec* pieces, size_t count) {
  bool waited = false;
  int interrupted = 0;
  while (in_service()) {
    counters_.write_calls.add(1);
    const ssize_t written =
        count == 1 ? context_.io.write(context_.tun_fd, pieces->iov_base, pieces->iov_len)
                   : context_.io.writev(context_.tun_fd, pieces, static_cast<int>(count));
    if (written >= 0) return 0;
    const int number = static_cast<int>(-written);
    if (number == EINTR && ++interrupted < kInterruptedMax) continue;
    if (!is_try_again(number) || waited) return number;
    waited = true;
    interrupted = 0;
    wait(POLLOUT, kTunBlockedMs);
  }
  return ECANCELED;
}

void Decapsulation::wrote(int number, size_t packets, size_t bytes) {
  if (number == 0) {
    counters_.sent_packets.add(packets);
    counters_.sent_bytes.add(bytes);
    return;
  }
  if (number == ECANCELED) return;
  if (is_final(number)) {
    fault(FaultSource::kTun, number);
  } else {
    counters_.drop(number == EIO ? DropReason::kDeviceDown : DropReason::kWriteFailed, packets);
  }
}

}  // namespace flannelette
