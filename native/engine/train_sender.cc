#include "engine/train_sender.h"

#include <algorithm>
#include <cstring>

#include "sys/address.h"
#include "sys/kernel.h"

namespace flannelette {

TrainSender::TrainSender(Io& io, std::vector<int> fds, uint16_t port)
    : io_(io), fds_(std::move(fds)) {
  for (size_t m = 0; m < kMessagesMax; ++m) {
    addresses_[m] = socket_address(0, port);
    msghdr& header = messages_[m].msg_hdr;
    header.msg_name = &addresses_[m];
    header.msg_namelen = sizeof(addresses_[m]);
    header.msg_iov = &buffers_[m];
    header.msg_iovlen = 1;
    auto* control = reinterpret_cast<cmsghdr*>(controls_[m].bytes.data());
    control->cmsg_level = IPPROTO_UDP;
    control->cmsg_type = UDP_SEGMENT;
    control->cmsg_len = CMSG_LEN(sizeof(uint16_t));
  }
}

TrainSender::Outcome TrainSender::send(PacketRing& ring, const Limits& limits) {
  const size_t limit = limits.mmsg ? std::min(limits.messages, kMessagesMax) : 1;
  const uint16_t port = ring.peek(0).port;
  const int fd = fds_[port];
  size_t count = 0;
  for (size_t at = 0; count < limit && at < ring.size() && ring.peek(at).port == port; ++count)
    at += put(ring, at, count, limits.trains);

  Outcome outcome;
  outcome.front = packets_[0];
  int sent = 0;
  if (limits.mmsg) {
    sent = io_.sendmmsg(fd, messages_.data(), static_cast<unsigned>(count));
  } else {
    const ssize_t taken = io_.sendmsg(fd, &messages_[0].msg_hdr);
    sent = taken < 0 ? static_cast<int>(taken) : 1;
  }
  if (sent < 0) {
    outcome.error = sent;
    return outcome;
  }
  for (size_t m = 0; m < static_cast<size_t>(sent); ++m) {
    outcome.packets += packets_[m];
    outcome.bytes += buffers_[m].iov_len;
  }
  return outcome;
}

size_t TrainSender::put(PacketRing& ring, size_t at, size_t m, bool trains) {
  const PacketRecord& first = ring.peek(at);
  const size_t packets = trains && !avoided(first.next_hop) ? train_length(ring, at) : 1;
  const PacketRecord& last = ring.peek(at + packets - 1);
  addresses_[m].sin_addr.s_addr = htonl(first.next_hop);
  buffers_[m] = {ring.bytes(first).data(), last.offset + last.length - first.offset};
  packets_[m] = packets;
  msghdr& header = messages_[m].msg_hdr;
  if (packets == 1) {
    // No control message when it is not needed: even one of a single segment can be refused.
    header.msg_control = nullptr;
    header.msg_controllen = 0;
    return 1;
  }
  const auto size = static_cast<uint16_t>(first.length);
  auto* control = reinterpret_cast<cmsghdr*>(controls_[m].bytes.data());
  std::memcpy(CMSG_DATA(control), &size, sizeof(size));
  header.msg_control = controls_[m].bytes.data();
  header.msg_controllen = controls_[m].bytes.size();
  return packets;
}

size_t TrainSender::train_length(const PacketRing& ring, size_t at) const {
  const PacketRecord& first = ring.peek(at);
  const size_t most = std::min(kSendSegmentsMax, kSendBytesMax / first.length);
  if (most < 2) return 1;
  // Far enough to split a run evenly, and no further: the rest is looked at when it is its turn.
  const size_t horizon = std::min(ring.size() - at, 2 * most);
  size_t run = 1;
  uint32_t end = first.offset + first.length;
  for (; run < horizon; ++run) {
    const PacketRecord& next = ring.peek(at + run);
    if (next.next_hop != first.next_hop || next.port != first.port || next.offset != end ||
        next.length > first.length)
      break;
    end += next.length;
    if (next.length < first.length) {
      ++run;
      break;
    }
  }
  if (run <= most) return run;
  return run < 2 * most ? (run + 1) / 2 : most;
}

void TrainSender::avoid_trains(uint32_t next_hop, uint64_t until) {
  for (size_t i = 0; i < avoided_count_; ++i) {
    if (avoided_[i].next_hop != next_hop) continue;
    avoided_[i].until = until;
    return;
  }
  // A full table forgets the oldest: that next hop is tried again, at the price of one refusal.
  size_t at = avoided_count_;
  if (at == kAvoidedMax) {
    at = static_cast<size_t>(
        std::min_element(avoided_.begin(), avoided_.end(),
                         [](const Avoided& a, const Avoided& b) { return a.until < b.until; }) -
        avoided_.begin());
  } else {
    ++avoided_count_;
  }
  avoided_[at] = {next_hop, until};
}

void TrainSender::revise(uint64_t now) {
  const auto last = std::remove_if(avoided_.begin(), avoided_.begin() + avoided_count_,
                                   [now](const Avoided& entry) { return entry.until <= now; });
  avoided_count_ = static_cast<size_t>(last - avoided_.begin());
}

bool TrainSender::avoided(uint32_t next_hop) const {
  for (size_t i = 0; i < avoided_count_; ++i)
    if (avoided_[i].next_hop == next_hop) return true;
  return false;
}

}  // namespace flannelette
