// Fuzz target: any bytes as the packets of batches. Every packet is in exactly one train and
// unchanged, each write passes Linux's checks and is cut into the packets that came, in order.
//
// Input: one byte of options, then steps: how (1 byte), length (2 bytes, cut to what is left),
// bytes. Most random bytes are no packet, so a step may repair them, or go on with an earlier
// packet: the bytes are then changes (offset, value) to its successor.
#include "core/coalesce.h"

#include <cstdint>
#include <cstdlib>
#include <deque>

#include "../native/tun_write.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// Whether there is a TCP or UDP header to repair the checksum of.
bool has_transport(const Bytes& bytes) {
  return bytes[0] == 0x45 &&
         ((bytes[9] == 6 && bytes.size() >= 40) || (bytes[9] == 17 && bytes.size() >= 28));
}

void repair(Bytes& bytes, uint8_t how) {
  if (bytes.size() < 20) bytes.resize(20);
  if (how & 1) bytes[0] = 0x45;
  put_word(bytes, 2, static_cast<uint32_t>(bytes.size()));
  if (how & 2) bytes[9] = how & 4 ? 6 : 17;
  if (how & 8) put_word(bytes, 6, 0x4000);
  if (how & 16) {
    put_long(bytes, 12, kContainer2);
    put_long(bytes, 16, kContainer1);
  }
  if (has_transport(bytes)) {
    if (how & 32) {
      if (bytes[9] == 6) {
        bytes[32] = 0x50;
        bytes[33] = 0x10;
      } else {
        put_word(bytes, 24, static_cast<uint32_t>(bytes.size() - 20));
      }
    }
    fix_transport_checksum(bytes);
  }
  const size_t header = size_t{bytes[0] & 15U} * 4;
  if (header >= 20 && header <= bytes.size()) fix_checksum(bytes);
}

// The packet that would follow `before` in its flow, with changes.
Bytes successor(Bytes bytes, std::span<const uint8_t> changes) {
  put_word(bytes, 4, word_at(bytes, 4) + 1U);
  if (bytes[0] == 0x45 && bytes[9] == 6 && bytes.size() >= 40) {
    const size_t header = 20 + size_t{bytes[32]} / 16 * 4;
    if (header <= bytes.size())
      put_long(bytes, 24, static_cast<uint32_t>(long_at(bytes, 24) + (bytes.size() - header)));
  }
  if (changes.size() % 2 == 1 && bytes.size() > 20 + changes[0]) {
    bytes.resize(bytes.size() - changes[0]);
    put_word(bytes, 2, static_cast<uint32_t>(bytes.size()));
    if (has_transport(bytes) && bytes[9] == 17)
      put_word(bytes, 24, static_cast<uint32_t>(bytes.size() - 20));
    changes = changes.subspan(1);
  }
  if (has_transport(bytes)) fix_transport_checksum(bytes);
  for (size_t i = 0; i + 1 < changes.size(); i += 2) {
    bytes[changes[i] % bytes.size()] ^= changes[i + 1];
    if (changes[i] % 3 != 0 && has_transport(bytes)) fix_transport_checksum(bytes);
  }
  const size_t header = size_t{bytes[0] & 15U} * 4;
  if (header >= 20 && header <= bytes.size()) fix_checksum(bytes);
  return bytes;
}

struct Batch {
  Coalescer coalescer{{}, 96};
  std::deque<Bytes> arena;
  std::vector<Bytes> packets;
  std::vector<Ipv4Packet> views;
  std::vector<size_t> order;

  void finish() {
    require(batch_objection(coalescer, packets, views, order) == nullptr);
    coalescer.clear();
    require(coalescer.size() == 0);
    arena.clear();
    packets.clear();
    views.clear();
  }

  void add(const Bytes& bytes) {
    Ipv4Packet view;
    arena.push_back(bytes);
    if (Ipv4Packet::parse(arena.back(), view) != PacketFault::kNone) {
      arena.pop_back();
      return;
    }
    if (!coalescer.add(view)) {
      require(packets.size() == 96);
      const Bytes kept = bytes;
      finish();
      add(kept);
      return;
    }
    packets.emplace_back(view.bytes().begin(), view.bytes().end());
    views.push_back(view);
  }
};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  Batch batch;
  batch.coalescer.set_options({(data[0] & 1) == 0, (data[0] & 2) == 0});
  for (size_t at = 1; at + 3 <= size;) {
    const uint8_t how = data[at];
    const size_t length = std::min<size_t>(data[at + 1] * 256U + data[at + 2], size - at - 3);
    const std::span<const uint8_t> bytes(data + at + 3, length);
    at += 3 + length;
    if ((how & 0xc0) == 0xc0) {
      batch.add(Bytes(bytes.begin(), bytes.end()));
    } else if ((how & 0xc0) == 0x80 && !batch.packets.empty()) {
      const size_t back = std::min<size_t>(how & 7U, batch.packets.size() - 1);
      batch.add(successor(batch.packets[batch.packets.size() - 1 - back], bytes));
    } else {
      Bytes packet(bytes.begin(), bytes.end());
      repair(packet, how);
      batch.add(packet);
    }
  }
  batch.finish();
  return 0;
}
