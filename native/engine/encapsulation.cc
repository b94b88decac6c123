#include "engine/encapsulation.h"

#include <cerrno>

#include "sys/address.h"

namespace flannelette {

namespace {

// Room for a few batches of full packets behind a blocked socket, and always for one packet of the
// greatest length; small enough to stay in a core's cache.
constexpr size_t kRingBytes = size_t{512} * 1024;
constexpr size_t kRingRecords = 1024;

}  // namespace

Encapsulation::Encapsulation(const DirectionContext& context)
    : Direction(context, kEncapsulationReader, kRingBytes, kRingRecords),
      misses_(context_.events, EventType::kMiss) {
  for (size_t i = 0; i < kBatchMax; ++i) {
    addresses_[i] = socket_address(0, context_.port);
    messages_[i] = {};
    messages_[i].msg_hdr.msg_name = &addresses_[i];
    messages_[i].msg_hdr.msg_namelen = sizeof(addresses_[i]);
    messages_[i].msg_hdr.msg_iov = &buffers_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
  }
}

void Encapsulation::run() {
  while (running()) {
    const Fill filled = fill();
    if (!running()) break;
    const Drain drained = drain();
    if (!running()) break;
    if (drained == Drain::kBlocked) {
      // Read on only while there is room for what comes.
      if (filled != Fill::kMore) wait(filled == Fill::kTunEmpty ? POLLIN : 0, POLLOUT);
    } else if (filled == Fill::kTunEmpty && !linger()) {
      wait(POLLIN, 0);
    }
  }
}

Encapsulation::Fill Encapsulation::fill() {
  const ForwardingTable& routes = table();
  for (size_t i = 0; i < batch_limit(); ++i) {
    const auto space = ring_.reserve(kIpv4PacketMax);
    if (space.empty()) return Fill::kRingFull;
    counters_.read_calls.add(1);
    const ssize_t received = context_.io.read(context_.tun_fd, space.data(), space.size());
    if (received < 0) {
      const int number = static_cast<int>(-received);
      if (number == EINTR) continue;
      if (number != EAGAIN) {
        if (is_final(number)) {
          fault(FaultSource::kTun, number);
        } else {
          back_off();
        }
      }
      return Fill::kTunEmpty;
    }
    counters_.received_packets.add(1);
    counters_.received_bytes.add(static_cast<uint64_t>(received));
    admit(space, static_cast<size_t>(received), routes);
  }
  return Fill::kMore;
}

void Encapsulation::admit(std::span<uint8_t> reservation, size_t received,
                          const ForwardingTable& table) {
  Ipv4Packet packet;
  const PacketFault faulty = Ipv4Packet::parse(reservation.first(received), packet);
  if (faulty != PacketFault::kNone) {
    drop_faulty(faulty);
    return;
  }
  const uint32_t next_hop = table.lookup(packet.destination());
  if (next_hop == 0) {
    counters_.drop(DropReason::kNoRoute);
    answer(IcmpError::kNetUnreachable, packet);
    misses_.report(packet.destination(), monotonic_ns(), counters_);
    return;
  }
  if (packet.ttl() <= 1) {
    counters_.drop(DropReason::kTtlExceeded);
    answer(IcmpError::kTimeExceeded, packet);
    return;
  }
  packet.decrement_ttl();
  const size_t length = packet.bytes().size();
  ring_.commit(0, length, length, next_hop);
}

Encapsulation::Drain Encapsulation::drain() {
  note_ring();
  if (!ring_.empty()) made_progress();
  while (!ring_.empty()) {
    const size_t count = std::min(ring_.size(), batch_limit());
    counters_.write_calls.add(1);
    const int sent = send(count);
    if (sent > 0) {
      uint64_t bytes = 0;
      for (int i = 0; i < sent; ++i) bytes += ring_.peek(static_cast<size_t>(i)).length;
      counters_.sent_packets.add(static_cast<uint64_t>(sent));
      counters_.sent_bytes.add(bytes);
      note_batch(static_cast<size_t>(sent));
      ring_.release(static_cast<size_t>(sent));
    } else if (sent == -EAGAIN) {
      return Drain::kBlocked;
    } else if (sent != -EINTR) {
      drop_first(-sent);
      if (!running()) return Drain::kDone;
    }
  }
  counters_.ring_bytes.set(0);
  return Drain::kDone;
}

int Encapsulation::send(size_t count) {
  for (size_t i = 0; i < count; ++i) {
    const PacketRecord& record = ring_.peek(i);
    const auto bytes = ring_.bytes(record);
    addresses_[i].sin_addr.s_addr = htonl(record.next_hop);
    buffers_[i] = {bytes.data(), bytes.size()};
  }
  if (context_.mode == Mode::kBasic) {
    const ssize_t sent = context_.io.sendmsg(context_.udp_fd, &messages_[0].msg_hdr);
    return sent < 0 ? static_cast<int>(sent) : 1;
  }
  return context_.io.sendmmsg(context_.udp_fd, messages_.data(), static_cast<unsigned>(count));
}

void Encapsulation::drop_first(int number) {
  DropReason reason = DropReason::kSendFailed;
  switch (number) {
    case ENOBUFS:
    case ENOMEM:
      reason = DropReason::kSendBufferFull;
      break;
    case EPERM:
    case EACCES:
      reason = DropReason::kSendRefused;
      break;
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN:
      reason = DropReason::kSendUnreachable;
      break;
    case EMSGSIZE:
      reason = DropReason::kSendTooBig;
      break;
    default:
      if (is_final(number)) fault(FaultSource::kUdp, number);
      break;
  }
  counters_.drop(reason);
  ring_.release(1);
}

}  // namespace flannelette
