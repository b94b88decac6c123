// The packet ring against a naive queue: contents intact, nothing overlaps, back to back, full by
// bytes and by records.
#include "core/packet_ring.h"

#include <doctest/doctest.h>

#include <deque>
#include <random>
#include <vector>

#include "packets.h"

namespace flannelette::test {

namespace {

struct Expected {
  Bytes bytes;
  uint32_t next_hop;
};

bool append(PacketRing& ring, size_t reserved, size_t length, uint32_t next_hop = 0) {
  const auto space = ring.reserve(reserved);
  if (space.empty()) return false;
  std::fill_n(space.begin(), length, static_cast<uint8_t>(next_hop));
  ring.commit(0, length, length, next_hop);
  return true;
}

size_t wrong_packets(PacketRing& ring, const std::deque<Expected>& model) {
  size_t wrong = ring.size() == model.size() ? 0 : 1;
  for (size_t i = 0; i < std::min(ring.size(), model.size()); ++i) {
    const PacketRecord& record = ring.peek(i);
    const auto bytes = ring.bytes(record);
    if (record.next_hop != model[i].next_hop ||
        !std::equal(bytes.begin(), bytes.end(), model[i].bytes.begin(), model[i].bytes.end()))
      ++wrong;
  }
  return wrong;
}

}  // namespace

TEST_CASE("a new ring is empty and gives its whole capacity") {
  std::vector<uint8_t> arena(1000);
  PacketRing ring(arena, 4);
  CHECK(ring.empty());
  CHECK(ring.size() == 0);
  CHECK(ring.used_bytes() == 0);
  CHECK(ring.capacity() == 1000);
  CHECK(ring.records_free() == 4);
  CHECK(ring.reserve(1000).size() == 1000);
  CHECK(ring.reserve(1001).empty());
}

TEST_CASE("packets from exact reservations lie back to back, also behind long reservations") {
  for (const size_t reserved : {100, 900}) {
    std::vector<uint8_t> arena(2000);
    PacketRing ring(arena, 16);
    for (uint32_t i = 0; i < 10; ++i) REQUIRE(append(ring, reserved, 100, i));
    for (size_t i = 1; i < ring.size(); ++i)
      CHECK(ring.peek(i).offset == ring.peek(i - 1).offset + ring.peek(i - 1).length);
    CHECK(ring.used_bytes() == 1000);
  }
}

TEST_CASE("a reservation that is not committed keeps nothing") {
  std::vector<uint8_t> arena(1000);
  PacketRing ring(arena, 4);
  REQUIRE(append(ring, 300, 300, 1));
  for (int i = 0; i < 100; ++i) CHECK(ring.reserve(700).size() == 700);
  CHECK(ring.used_bytes() == 300);
  CHECK(ring.size() == 1);
}

TEST_CASE("full by records, then room again one by one") {
  std::vector<uint8_t> arena(100000);
  PacketRing ring(arena, 4);
  for (uint32_t i = 0; i < 4; ++i) REQUIRE(append(ring, 10, 10, i));
  CHECK(ring.records_free() == 0);
  CHECK(ring.reserve(1).empty());
  ring.release(1);
  CHECK(append(ring, 10, 10, 4));
  CHECK(ring.reserve(1).empty());
  for (size_t i = 0; i < 4; ++i) CHECK(ring.peek(i).next_hop == i + 1);
}

TEST_CASE("full by bytes: exactly full, nothing more, and whole again when drained") {
  std::vector<uint8_t> arena(1000);
  PacketRing ring(arena, 64);
  for (uint32_t i = 0; i < 10; ++i) REQUIRE(append(ring, 100, 100, i));
  CHECK(ring.used_bytes() == 1000);
  CHECK(ring.reserve(1).empty());
  ring.release(3);
  CHECK(ring.used_bytes() == 700);
  CHECK(ring.reserve(301).empty());
  REQUIRE(append(ring, 300, 300, 77));
  CHECK(ring.used_bytes() == 1000);
  CHECK(ring.reserve(1).empty());
  CHECK(ring.peek(7).offset == 0);
  ring.release(8);
  CHECK(ring.empty());
  CHECK(ring.used_bytes() == 0);
  CHECK(ring.reserve(1000).size() == 1000);
}

TEST_CASE(
    "a tail too short for a packet is passed over and counts as used until the wrap is done") {
  std::vector<uint8_t> arena(1000);
  PacketRing ring(arena, 64);
  REQUIRE(append(ring, 600, 600, 1));
  REQUIRE(append(ring, 300, 300, 2));
  CHECK(ring.reserve(200).empty());  // neither the tail nor the front has room
  ring.release(1);
  CHECK(ring.reserve(601).empty());
  REQUIRE(append(ring, 200, 200, 3));
  CHECK(ring.peek(1).offset == 0);
  CHECK(ring.used_bytes() == 1000 - 600 + 200);
  ring.release(1);
  CHECK(ring.used_bytes() == 200);
  CHECK(ring.bytes(ring.peek(0))[199] == 3);
  CHECK(ring.reserve(800).size() == 800);
}

TEST_CASE("several packets of one reservation, in slots with room between") {
  std::vector<uint8_t> arena(4 * 100);
  PacketRing ring(arena, 4);
  auto slots = ring.reserve(400);
  REQUIRE(slots.size() == 400);
  for (size_t i = 0; i < 400; ++i) slots[i] = static_cast<uint8_t>(i / 100);
  ring.commit(0, 20, 100, 10);
  ring.commit(200, 50, 300, 12);  // the datagram of slot 1 was no packet
  ring.commit(300, 100, 400, 13);
  REQUIRE(ring.size() == 3);
  CHECK(ring.bytes(ring.peek(1))[0] == 2);
  CHECK(ring.bytes(ring.peek(2))[99] == 3);
  CHECK(ring.used_bytes() == 400);
  CHECK(ring.reserve(1).empty());
  ring.release(1);
  CHECK(ring.bytes(ring.peek(0)).size() == 50);
  ring.release(2);
  CHECK(ring.reserve(400).size() == 400);
}

TEST_CASE("releasing nothing changes nothing") {
  std::vector<uint8_t> arena(100);
  PacketRing ring(arena, 4);
  ring.release(0);
  REQUIRE(append(ring, 10, 10, 1));
  ring.release(0);
  CHECK(ring.size() == 1);
  CHECK(ring.used_bytes() == 10);
}

TEST_CASE("random use against a naive queue") {
  struct Shape {
    size_t capacity;
    size_t records;
    size_t longest;
  };
  for (const Shape shape : {Shape{4096, 16, 1000}, Shape{1000, 64, 100}, Shape{509, 8, 509},
                            Shape{60, 64, 3}, Shape{65536, 32, 9000}}) {
    std::mt19937 random(static_cast<uint32_t>(shape.capacity));
    std::vector<uint8_t> arena(shape.capacity);
    PacketRing ring(arena, shape.records);
    std::deque<Expected> model;
    size_t wrong = 0;
    size_t wraps = 0;
    size_t full = 0;
    for (uint32_t step = 0; step < 30000; ++step) {
      // Times in which it fills and times in which it drains.
      if (random() % 5 < (step / 500 % 2 == 0 ? 4 : 2)) {
        const size_t reserved = 1 + random() % shape.longest;
        const auto space = ring.reserve(reserved);
        if (space.empty()) {
          ++full;
          if (model.empty()) ++wrong;  // an empty ring has room for every packet
        } else {
          if (space.size() != reserved) ++wrong;
          // The kernel may write all of it, whatever is committed then.
          std::fill(space.begin(), space.end(), uint8_t{0xee});
          size_t offset = 0;
          while (offset < reserved && ring.records_free() > 0 && random() % 4 != 0) {
            const size_t length = 1 + random() % (reserved - offset);
            const size_t used = offset + length + random() % (reserved - offset - length + 1);
            Expected packet{Bytes(length), static_cast<uint32_t>(random())};
            for (uint8_t& byte : packet.bytes) byte = static_cast<uint8_t>(random());
            std::copy(packet.bytes.begin(), packet.bytes.end(),
                      space.begin() + static_cast<ptrdiff_t>(offset));
            ring.commit(offset, length, used, packet.next_hop);
            if (ring.size() > 1 &&
                ring.peek(ring.size() - 1).offset < ring.peek(ring.size() - 2).offset)
              ++wraps;
            model.push_back(std::move(packet));
            offset = used;
          }
        }
      } else {
        const size_t n = std::min<size_t>(model.size(), random() % 6);
        wrong += wrong_packets(ring, model);
        ring.release(n);
        model.erase(model.begin(), model.begin() + static_cast<ptrdiff_t>(n));
      }
      size_t bytes = 0;
      for (const Expected& packet : model) bytes += packet.bytes.size();
      if (ring.used_bytes() < bytes || ring.used_bytes() > ring.capacity()) ++wrong;
      if (model.empty() && ring.used_bytes() != 0) ++wrong;
      if (ring.size() != model.size() || ring.empty() != model.empty()) ++wrong;
      if (ring.records_free() != shape.records - model.size()) ++wrong;
    }
    CAPTURE(shape.capacity);
    CHECK(wrong == 0);
    CHECK(wraps > 10);
    CHECK(full > 10);
  }
}

}  // namespace flannelette::test
