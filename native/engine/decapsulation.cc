#include "engine/decapsulation.h"

#include <algorithm>
#include <cerrno>

#include "sys/address.h"

namespace flannelette {

namespace {

// The greatest datagram fits a slot, so none is ever cut. Memory beyond what datagrams fill is
// never touched. The stride is no power of two: slots at multiples of 64 KiB would share the same
// few cache sets.
constexpr size_t kSlotBytes = 65536;
constexpr size_t kSlotStride = kSlotBytes + 2112;
constexpr size_t kRingBytes = kBatchMax * kSlotStride;

// How long a TUN that takes nothing may hold a packet up before it is dropped.
constexpr int kTunBlockedMs = 100;

}  // namespace

Decapsulation::Decapsulation(const DirectionContext& context)
    : Direction(context, kDecapsulationReader, kRingBytes, kBatchMax),
      refusals_(context_.events, EventType::kRefused) {
  for (size_t i = 0; i < kBatchMax; ++i) {
    messages_[i] = {};
    messages_[i].msg_hdr.msg_name = &sources_[i];
    messages_[i].msg_hdr.msg_iov = &buffers_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

void Decapsulation::run() {
  while (running()) {
    if (fill()) {
      drain();
      made_progress();
    } else if (running() && !linger()) {
      wait(0, POLLIN);
    }
  }
}

bool Decapsulation::fill() {
  const size_t count = batch_limit();
  slots_ = ring_.reserve(count * kSlotStride);
  counters_.read_calls.add(1);
  const int received = receive(count);
  if (received < 0) {
    if (received == -EINTR) return true;
    if (received == -EAGAIN) return false;
    // Errors of earlier sends may surface here (ICMP answers); each is reported once.
    if (is_final(-received)) {
      fault(FaultSource::kUdp, -received);
    } else {
      back_off();
    }
    return true;
  }
  const ForwardingTable& routes = table();
  for (size_t i = 0; i < static_cast<size_t>(received); ++i) admit(i, messages_[i].msg_len, routes);
  return true;
}

int Decapsulation::receive(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    buffers_[i] = {slots_.data() + i * kSlotStride, kSlotBytes};
    messages_[i].msg_hdr.msg_namelen = sizeof(sources_[i]);
    messages_[i].msg_hdr.msg_flags = 0;
  }
  if (context_.mode == Mode::kBasic) {
    const ssize_t received = context_.io.recvmsg(context_.udp_fd, &messages_[0].msg_hdr);
    if (received < 0) return static_cast<int>(received);
    messages_[0].msg_len = static_cast<unsigned>(received);
    return 1;
  }
  return context_.io.recvmmsg(context_.udp_fd, messages_.data(), static_cast<unsigned>(count));
}

void Decapsulation::admit(size_t message, size_t received, const ForwardingTable& table) {
  counters_.received_packets.add(1);
  counters_.received_bytes.add(received);
  if ((messages_[message].msg_hdr.msg_flags & MSG_TRUNC) != 0) {
    counters_.drop(DropReason::kOversize);
    return;
  }
  Ipv4Packet packet;
  const size_t offset = message * kSlotStride;
  const PacketFault faulty = Ipv4Packet::parse(slots_.subspan(offset, received), packet);
  if (faulty != PacketFault::kNone) {
    drop_faulty(faulty);
    return;
  }
  if (context_.source_check && !trusted(packet, ntohl(sources_[message].sin_addr.s_addr), table))
    return;
  if (packet.ttl() <= 1) {
    counters_.drop(DropReason::kTtlExceeded);
    answer(IcmpError::kTimeExceeded, packet);
    return;
  }
  packet.decrement_ttl();
  ring_.commit(offset, packet.bytes().size(), offset + kSlotStride, 0);
}

bool Decapsulation::trusted(const Ipv4Packet& packet, uint32_t outer_source,
                            const ForwardingTable& table) {
  const uint32_t holder = table.lookup(packet.source());
  // A sender 0.0.0.0 must not match "no route".
  if (holder == 0 || holder != outer_source) {
    counters_.drop(table.has_next_hop(outer_source) ? DropReason::kSourceMismatch
                                                    : DropReason::kUnknownSource);
  } else if (!context_.own.contains(packet.destination())) {
    counters_.drop(DropReason::kForeignDestination);
  } else {
    return true;
  }
  refusals_.report(outer_source, monotonic_ns(), counters_);
  return false;
}

void Decapsulation::drain() {
  note_ring();
  if (!ring_.empty()) note_batch(ring_.size());
  bool waited = false;
  while (!ring_.empty() && running()) {
    const auto bytes = ring_.bytes(ring_.peek(0));
    counters_.write_calls.add(1);
    const ssize_t written = context_.io.write(context_.tun_fd, bytes.data(), bytes.size());
    if (written >= 0) {
      counters_.sent_packets.add(1);
      counters_.sent_bytes.add(bytes.size());
    } else if (written == -EINTR) {
      continue;
    } else if (written == -EAGAIN && !waited) {
      waited = true;
      wait(POLLOUT, 0, kTunBlockedMs);
      continue;
    } else if (is_final(static_cast<int>(-written))) {
      fault(FaultSource::kTun, static_cast<int>(-written));
    } else {
      counters_.drop(written == -EIO ? DropReason::kDeviceDown : DropReason::kWriteFailed);
    }
    waited = false;
    ring_.release(1);
  }
  counters_.ring_bytes.set(0);
}

}  // namespace flannelette
