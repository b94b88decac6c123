// The ring between a direction's reader stage and its writer stage.
//
// Vocabulary: a *packet* is one IPv4 packet; a *run* is neighbouring packets of the ring; a *batch*
// is what one drain hands to the kernel. The reader stage reserves contiguous bytes, lets the
// kernel write into them, and commits what arrived; the writer stage takes packets from the front
// and releases them. Packets committed one after another from exact reservations lie back to back,
// so that a run of equal packets can later be one UDP_SEGMENT send with one buffer.
//
// One thread runs both stages of a direction (a thread hop per packet costs more than the copy), so
// nothing here is shared or atomic. When bytes or records run out the reader stops and the kernel's
// own queue holds on. The memory is the caller's.
//
//   0        front            head              capacity
//   |  free  | packets ------ |  free           |      head wraps to 0 when the tail is too short
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace flannelette {

struct PacketRecord {
  uint32_t offset = 0;    // of the packet's first byte in the arena
  uint16_t length = 0;    // bytes of the packet
  uint16_t port = 0;      // which of the source ports it leaves by (encapsulation)
  uint32_t end = 0;       // arena bytes up to here are freed with the packet
  uint32_t next_hop = 0;  // outer destination (encapsulation), host order
};

class PacketRing {
 public:
  // `arena` holds the packets and outlives the ring; `records` (a power of two) packets at most.
  PacketRing(std::span<uint8_t> arena, size_t records);

  // `bytes` contiguous bytes for the reader stage, empty when the ring is full. The reservation
  // lasts until the next reserve; only what is committed is kept.
  std::span<uint8_t> reserve(size_t bytes);

  // Appends the packet at `offset` of the last reservation. Commits within one reservation are in
  // ascending order; `used` is where the next packet may start (at least offset + length).
  // Requires records_free() > 0.
  void commit(size_t offset, size_t length, size_t used, uint32_t next_hop, uint16_t port = 0);

  bool empty() const { return count_ == 0; }
  size_t size() const { return count_; }
  size_t records() const { return records_.size(); }
  size_t records_free() const { return records_.size() - count_; }

  // The i-th packet from the front, i < size().
  const PacketRecord& peek(size_t i) const { return records_[(first_ + i) & mask_]; }
  std::span<uint8_t> bytes(const PacketRecord& record) {
    return arena_.subspan(record.offset, record.length);
  }

  // Removes n <= size() packets from the front.
  void release(size_t n);

  size_t used_bytes() const;
  size_t capacity() const { return arena_.size(); }

 private:
  std::span<uint8_t> arena_;
  std::vector<PacketRecord> records_;
  size_t mask_;
  size_t first_ = 0;
  size_t count_ = 0;
  size_t front_ = 0;        // first byte in use
  size_t head_ = 0;         // next free byte
  size_t reservation_ = 0;  // start of the last reservation
};

}  // namespace flannelette
