#include "core/packet_ring.h"

namespace flannelette {

PacketRing::PacketRing(std::span<uint8_t> arena, size_t records)
    : arena_(arena), records_(records), mask_(records - 1) {}

std::span<uint8_t> PacketRing::reserve(size_t bytes) {
  if (count_ == 0) {
    // Start over at 0: the bytes used last are still in the cache.
    front_ = head_ = 0;
  }
  if (records_free() == 0) return {};
  const bool wrapped = count_ != 0 && head_ <= front_;
  size_t start = head_;
  if (wrapped) {
    if (front_ - head_ < bytes) return {};
  } else if (arena_.size() - head_ < bytes) {
    if (front_ < bytes) return {};
    start = 0;
  }
  reservation_ = start;
  return arena_.subspan(start, bytes);
}

void PacketRing::commit(size_t offset, size_t length, size_t used, uint32_t next_hop,
                        uint16_t port) {
  PacketRecord& record = records_[(first_ + count_) & mask_];
  record.offset = static_cast<uint32_t>(reservation_ + offset);
  record.length = static_cast<uint16_t>(length);
  record.port = port;
  record.end = static_cast<uint32_t>(reservation_ + used);
  record.next_hop = next_hop;
  head_ = record.end;
  ++count_;
}

void PacketRing::release(size_t n) {
  if (n == 0) return;
  front_ = peek(n - 1).end;
  first_ = (first_ + n) & mask_;
  count_ -= n;
  // Past a wrap the next packet starts at the arena's beginning, not where the last one ended.
  if (count_ != 0 && peek(0).offset < front_) front_ = peek(0).offset;
}

size_t PacketRing::used_bytes() const {
  if (count_ == 0) return 0;
  return head_ > front_ ? head_ - front_ : arena_.size() - front_ + head_;
}

}  // namespace flannelette
