// Segmentation, byte for byte against a naive implementation that shares nothing with it, and
// against a packet cut by hand; every fault; checksums completed in place.
#include "core/segment.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <random>

#include "packets.h"

namespace flannelette::test {

namespace {

constexpr uint8_t kFin = 0x01;
constexpr uint8_t kSyn = 0x02;
constexpr uint8_t kPsh = 0x08;
constexpr uint8_t kAck = 0x10;
constexpr uint8_t kUrg = 0x20;
constexpr uint8_t kCwr = 0x80;

struct Transport {
  bool tcp = true;
  size_t options = 0;  // bytes of TCP options, a multiple of 4
  uint8_t flags = kAck;
  uint32_t sequence = 1;
  Bytes payload = {};
};

// A whole TCP segment or UDP datagram as the payload of an IP packet; its checksum is left wrong.
Bytes transport_bytes(const Transport& t) {
  Bytes out(t.tcp ? 20 + t.options : 8, 0);
  put_word(out, 0, 40000);
  put_word(out, 2, 80);
  if (t.tcp) {
    put_long(out, 4, t.sequence);
    put_long(out, 8, 0xa1b2c3d4);
    out[12] = static_cast<uint8_t>(out.size() / 4 << 4);
    out[13] = t.flags;
    put_word(out, 14, 501);
    put_word(out, 16, 0xdead);
    put_word(out, 18, 77);  // urgent pointer
    for (size_t i = 20; i < out.size(); ++i) out[i] = static_cast<uint8_t>(i * 3);
  } else {
    put_word(out, 4, static_cast<uint32_t>(8 + t.payload.size()));
    put_word(out, 6, 0xbeef);
  }
  out.insert(out.end(), t.payload.begin(), t.payload.end());
  return out;
}

Bytes offloaded(const Transport& t, PacketSpec spec = {}) {
  spec.protocol = t.tcp ? 6 : 17;
  spec.payload = transport_bytes(t);
  return make_packet(spec);
}

VirtioNetHeader header_for(const Bytes& packet, uint16_t gso_size) {
  const bool tcp = packet[9] == 6;
  return {.flags = kNeedsChecksum,
          .gso_type = tcp ? kGsoTcp4 : kGsoUdpL4,
          .header_length = 54,
          .gso_size = gso_size,
          .checksum_start = static_cast<uint16_t>((packet[0] & 15) * 4),
          .checksum_offset = static_cast<uint16_t>(tcp ? 16 : 6)};
}

// What the transport checksum of a whole packet should be, from a written-out pseudo header.
uint16_t naive_transport_checksum(const Bytes& packet) {
  const size_t header = size_t{packet[0] & 15U} * 4;
  const size_t field = packet[9] == 6 ? 16 : 6;
  Bytes summed(packet.begin() + 12, packet.begin() + 20);
  summed.push_back(0);
  summed.push_back(packet[9]);
  summed.resize(12);
  put_word(summed, 10, static_cast<uint32_t>(packet.size() - header));
  summed.insert(summed.end(), packet.begin() + static_cast<ptrdiff_t>(header), packet.end());
  put_word(summed, 12 + field, 0);
  const uint16_t sum = naive_checksum(summed);
  return packet[9] == 17 && sum == 0 ? 0xffff : sum;
}

std::vector<Bytes> naive_segments(const Bytes& packet, size_t gso_size) {
  const size_t ip = size_t{packet[0] & 15U} * 4;
  const bool tcp = packet[9] == 6;
  const size_t headers = ip + (tcp ? size_t{packet[ip + 12]} / 16 * 4 : 8);
  std::vector<Bytes> out;
  size_t at = headers;
  do {
    const size_t end = std::min(packet.size(), at + gso_size);
    Bytes segment(packet.begin(), packet.begin() + static_cast<ptrdiff_t>(headers));
    segment.insert(segment.end(), packet.begin() + static_cast<ptrdiff_t>(at),
                   packet.begin() + static_cast<ptrdiff_t>(end));
    put_word(segment, 2, static_cast<uint32_t>(segment.size()));
    put_word(segment, 4, static_cast<uint32_t>(word_at(packet, 4) + out.size()));
    fix_checksum(segment);
    if (tcp) {
      put_long(segment, ip + 4, long_at(packet, ip + 4) + static_cast<uint32_t>(at - headers));
      uint32_t cleared = 0;
      if (at != headers) cleared |= kCwr;
      if (end != packet.size()) cleared |= kFin | kPsh;
      segment[ip + 13] = static_cast<uint8_t>(segment[ip + 13] & ~cleared);
    } else {
      put_word(segment, ip + 4, static_cast<uint32_t>(segment.size() - ip));
    }
    put_word(segment, ip + (tcp ? 16 : 6), naive_transport_checksum(segment));
    out.push_back(segment);
    at = end;
  } while (at < packet.size());
  return out;
}

// Parses and plans an exact heap copy of a packet, and writes to exact heap memory, so that
// AddressSanitizer sees every step aside.
class Cut {
 public:
  Cut(const Bytes& packet, const VirtioNetHeader& header) : copy_(new uint8_t[packet.size()]) {
    std::copy(packet.begin(), packet.end(), copy_.get());
    parsed = Ipv4Packet::parse({copy_.get(), packet.size()}, view);
    if (parsed == PacketFault::kNone) fault = SegmentPlan::make(header, view, plan);
  }

  Bytes write() const { return write(0, plan.count()); }
  Bytes write(size_t first, size_t count) const {
    const size_t size = plan.bytes(first, count);
    const std::unique_ptr<uint8_t[]> out(new uint8_t[size]);
    plan.write(first, count, {out.get(), size});
    return {out.get(), out.get() + size};
  }

  PacketFault parsed;
  SegmentFault fault = SegmentFault::kNone;
  Ipv4Packet view;
  SegmentPlan plan;

 private:
  std::unique_ptr<uint8_t[]> copy_;
};

SegmentFault fault_of(const Bytes& packet, const VirtioNetHeader& header) {
  const Cut cut(packet, header);
  REQUIRE(cut.parsed == PacketFault::kNone);
  return cut.fault;
}

// Cuts and compares with the naive segments: plan, bytes, and the properties that matter outside.
void check_cut(const Bytes& packet, const VirtioNetHeader& header) {
  const Cut cut(packet, header);
  REQUIRE(cut.parsed == PacketFault::kNone);
  REQUIRE(cut.fault == SegmentFault::kNone);
  const std::vector<Bytes> expected = naive_segments(packet, header.gso_size);
  REQUIRE(cut.plan.count() == expected.size());
  REQUIRE(cut.plan.length() == expected.front().size());
  REQUIRE(cut.plan.last_length() == expected.back().size());

  Bytes all;
  for (const Bytes& segment : expected) all.insert(all.end(), segment.begin(), segment.end());
  REQUIRE(cut.plan.bytes() == all.size());
  Bytes written = cut.write();
  REQUIRE(written == all);

  const size_t ip = cut.view.header_length();
  const size_t headers = ip + (packet[9] == 6 ? size_t{packet[ip + 12]} / 16 * 4 : 8);
  Bytes payload;
  for (size_t at = 0, i = 0; i < expected.size(); ++i) {
    Ipv4Packet segment;
    REQUIRE(Ipv4Packet::parse(std::span(written).subspan(at), segment) == PacketFault::kNone);
    const std::span<const uint8_t> bytes = segment.bytes();
    REQUIRE(bytes.size() == expected[i].size());
    const Bytes whole(bytes.begin(), bytes.end());
    REQUIRE(word_at(whole, ip + (packet[9] == 6 ? 16 : 6)) == naive_transport_checksum(whole));
    payload.insert(payload.end(), bytes.begin() + static_cast<ptrdiff_t>(headers), bytes.end());
    at += bytes.size();
  }
  REQUIRE(payload == Bytes(packet.begin() + static_cast<ptrdiff_t>(headers), packet.end()));
}

Bytes random_bytes(size_t size, std::mt19937& random) {
  Bytes out(size);
  for (uint8_t& byte : out) byte = static_cast<uint8_t>(random());
  return out;
}

}  // namespace

TEST_CASE("a TCP packet of five bytes cut by hand into segments of two") {
  // 10.0.0.1 -> 10.0.0.2, id 0xffff, DF, TTL 63; sequence 0xfffffffe; CWR, ACK, PSH, FIN; "hello".
  const Bytes packet = {0x45, 0x02, 0x00, 0x2d, 0xff, 0xff, 0x40, 0x00, 0x3f, 0x06, 0x27, 0xc7,
                        10,   0,    0,    1,    10,   0,    0,    2,    0x04, 0x00, 0x00, 0x50,
                        0xff, 0xff, 0xff, 0xfe, 0,    0,    0,    9,    0x50, 0x99, 0x01, 0x00,
                        0x14, 0x22, 0,    0,    'h',  'e',  'l',  'l',  'o'};
  const Bytes first = {0x45, 0x02, 0x00, 0x2a, 0xff, 0xff, 0x40, 0x00, 0x3f, 0x06, 0x27,
                       0xca, 10,   0,    0,    1,    10,   0,    0,    2,    0x04, 0x00,
                       0x00, 0x50, 0xff, 0xff, 0xff, 0xfe, 0,    0,    0,    9,    0x50,
                       0x90, 0x01, 0x00, 0x2d, 0x93, 0,    0,    'h',  'e'};
  const Bytes second = {0x45, 0x02, 0x00, 0x2a, 0x00, 0x00, 0x40, 0x00, 0x3f, 0x06, 0x27,
                        0xca, 10,   0,    0,    1,    10,   0,    0,    2,    0x04, 0x00,
                        0x00, 0x50, 0,    0,    0,    0,    0,    0,    0,    9,    0x50,
                        0x10, 0x01, 0x00, 0x2a, 0x0b, 0,    0,    'l',  'l'};
  const Bytes third = {0x45, 0x02, 0x00, 0x29, 0x00, 0x01, 0x40, 0x00, 0x3f, 0x06, 0x27,
                       0xca, 10,   0,    0,    1,    10,   0,    0,    2,    0x04, 0x00,
                       0x00, 0x50, 0,    0,    0,    2,    0,    0,    0,    9,    0x50,
                       0x19, 0x01, 0x00, 0x27, 0x6d, 0,    0,    'o'};
  VirtioNetHeader header = header_for(packet, 2);
  header.gso_type |= kGsoEcn;
  const Cut cut(packet, header);
  REQUIRE(cut.parsed == PacketFault::kNone);
  REQUIRE(cut.fault == SegmentFault::kNone);
  CHECK(cut.plan.count() == 3);
  CHECK(cut.plan.length() == 42);
  CHECK(cut.plan.last_length() == 41);
  CHECK(cut.plan.bytes() == 125);
  CHECK(cut.write(0, 1) == first);
  CHECK(cut.write(1, 1) == second);
  CHECK(cut.write(2, 1) == third);
}

TEST_CASE("segments of random packets equal the naive ones") {
  std::mt19937 random(1);
  for (int i = 0; i < 1500; ++i) {
    const size_t payload = i % 10 == 0 ? random() % 65400 : random() % 6000;
    Transport transport{.tcp = random() % 3 != 0,
                        .options = 4 * (random() % 11),
                        .flags = static_cast<uint8_t>(random()),
                        .sequence = static_cast<uint32_t>(random())};
    PacketSpec spec{.ttl = static_cast<uint8_t>(1 + random() % 255),
                    .id = static_cast<uint16_t>(random()),
                    .fragment = static_cast<uint16_t>(random() % 2 == 0 ? 0x4000 : 0),
                    .options = 4 * (random() % 11)};
    const size_t room =
        65535 - 20 - spec.options - (transport.tcp ? 20 + transport.options : size_t{8});
    transport.payload = random_bytes(std::min(payload, room), random);
    Bytes packet = offloaded(transport, spec);
    packet[1] = static_cast<uint8_t>(random());
    fix_checksum(packet);
    const size_t least = payload > 6000 ? 100 : 1;
    const size_t most = i % 3 == 0 ? 65495 : 1500;
    VirtioNetHeader header =
        header_for(packet, static_cast<uint16_t>(least + random() % (most - least)));
    if (transport.tcp && random() % 2 == 0) header.gso_type |= kGsoEcn;
    header.header_length = static_cast<uint16_t>(random());
    CAPTURE(i);
    check_cut(packet, header);
  }
}

TEST_CASE("segments at every IHL and data offset, one byte each, and all payloads around a cut") {
  std::mt19937 random(2);
  for (size_t options = 0; options <= 40; options += 4) {
    for (size_t tcp_options = 0; tcp_options <= 40; tcp_options += 4) {
      const Bytes packet = offloaded({.options = tcp_options, .payload = random_bytes(5, random)},
                                     {.options = options});
      check_cut(packet, header_for(packet, 1));
    }
  }
  for (const bool tcp : {true, false}) {
    for (size_t payload = 0; payload <= 70; ++payload) {
      const Bytes packet = offloaded({.tcp = tcp, .payload = random_bytes(payload, random)});
      for (const uint16_t gso_size : {1, 2, 7, 23, 69, 70, 71, 65535})
        check_cut(packet, header_for(packet, gso_size));
    }
  }
}

TEST_CASE("segments of the greatest packets: 65,535 bytes, and into one byte each") {
  std::mt19937 random(3);
  for (const bool tcp : {true, false}) {
    const Bytes packet =
        offloaded({.tcp = tcp, .payload = random_bytes(tcp ? 65495 : 65507, random)});
    REQUIRE(packet.size() == 65535);
    for (const uint16_t gso_size : {1448, 8948, 65494, 65495, 65535})
      check_cut(packet, header_for(packet, gso_size));
    const Cut cut(packet, header_for(packet, 1));
    const size_t headers = tcp ? 40 : 28;
    REQUIRE(cut.plan.count() == packet.size() - headers);
    REQUIRE(cut.plan.bytes() == cut.plan.count() * (headers + 1));
  }
  const Bytes packet = offloaded({.payload = random_bytes(4000, random)});
  check_cut(packet, header_for(packet, 1));
}

TEST_CASE("segments of packets of zeros and of ones, where checksums are 0 and 0xffff") {
  for (const bool tcp : {true, false}) {
    for (const uint8_t value : {0x00, 0xff}) {
      const Bytes packet = offloaded({.tcp = tcp, .payload = Bytes(3001, value)});
      for (const uint16_t gso_size : {1, 500, 999, 1448})
        check_cut(packet, header_for(packet, gso_size));
    }
  }
}

TEST_CASE("a UDP segment's checksum of 0 becomes 0xffff, a TCP segment's stays 0") {
  for (const bool tcp : {true, false}) {
    // The second word of the second segment is chosen so that its sum is 0xffff.
    Bytes packet = offloaded({.tcp = tcp, .payload = Bytes(8, 0x11)});
    put_word(packet, packet.size() - 2, 0);
    const std::vector<Bytes> before = naive_segments(packet, 4);
    const size_t field = tcp ? 36 : 26;
    put_word(packet, packet.size() - 2, word_at(before[1], field));
    const Cut cut(packet, header_for(packet, 4));
    REQUIRE(cut.fault == SegmentFault::kNone);
    CHECK(word_at(cut.write(1, 1), field) == (tcp ? 0 : 0xffff));
    check_cut(packet, header_for(packet, 4));
  }
}

TEST_CASE("segmenting leaves FIN and PSH to the last, CWR to the first, and all else to each") {
  const Bytes packet =
      offloaded({.flags = kFin | kSyn | kPsh | kAck | kUrg | kCwr, .payload = Bytes(30, 1)});
  const Cut cut(packet, header_for(packet, 10));
  REQUIRE(cut.plan.count() == 3);
  const Bytes out = cut.write();
  CHECK(out[33] == (kSyn | kAck | kUrg | kCwr));
  CHECK(out[50 + 33] == (kSyn | kAck | kUrg));
  CHECK(out[100 + 33] == (kFin | kSyn | kPsh | kAck | kUrg));
  for (size_t i = 0; i < 3; ++i) CHECK(word_at(out, i * 50 + 38) == 77);
}

TEST_CASE("a segmented packet that is one segment keeps its flags") {
  const Bytes packet = offloaded({.flags = kFin | kPsh | kAck | kCwr, .payload = Bytes(30, 1)});
  const Cut cut(packet, header_for(packet, 30));
  REQUIRE(cut.plan.count() == 1);
  CHECK(cut.plan.length() == 70);
  CHECK(cut.plan.last_length() == 70);
  CHECK(cut.write()[33] == (kFin | kPsh | kAck | kCwr));
}

TEST_CASE("segments written in parts equal those written at once") {
  std::mt19937 random(4);
  const Bytes packet = offloaded({.payload = random_bytes(10007, random)});
  const Cut cut(packet, header_for(packet, 1000));
  REQUIRE(cut.plan.count() == 11);
  const Bytes whole = cut.write();
  for (size_t step = 1; step <= 11; ++step) {
    Bytes parts;
    for (size_t first = 0; first < 11; first += step) {
      const Bytes part = cut.write(first, std::min(step, 11 - first));
      parts.insert(parts.end(), part.begin(), part.end());
    }
    CHECK(parts == whole);
  }
  CHECK(cut.plan.bytes(3, 0) == 0);
}

TEST_CASE("segments carry the TTL that the packet has when they are written") {
  const Bytes packet = offloaded({.payload = Bytes(3000, 9)}, {.ttl = 64});
  Cut cut(packet, header_for(packet, 1448));
  REQUIRE(cut.fault == SegmentFault::kNone);
  cut.view.decrement_ttl();
  Bytes expected;
  for (const Bytes& segment : naive_segments(one_hop_later(packet), 1448))
    expected.insert(expected.end(), segment.begin(), segment.end());
  CHECK(cut.write() == expected);
}

TEST_CASE("segmenting needs no kNeedsChecksum, and then ignores the checksum's place") {
  std::mt19937 random(5);
  for (const bool tcp : {true, false}) {
    const Bytes packet = offloaded({.tcp = tcp, .payload = random_bytes(3001, random)});
    VirtioNetHeader header = header_for(packet, 1000);
    for (const uint8_t flags : {uint8_t{0}, kDataValid}) {
      header.flags = flags;
      header.checksum_start = static_cast<uint16_t>(random());
      header.checksum_offset = static_cast<uint16_t>(random());
      check_cut(packet, header);
    }
  }
}

TEST_CASE("bytes behind the total length are not segmented") {
  const Bytes packet = offloaded({.payload = Bytes(100, 1)});
  Bytes padded = packet;
  padded.resize(packet.size() + 50, 0xee);
  const Cut cut(padded, header_for(packet, 60));
  REQUIRE(cut.plan.count() == 2);
  CHECK(cut.plan.last_length() == 80);
  CHECK(cut.write() == Cut(packet, header_for(packet, 60)).write());
}

TEST_CASE("segmenting refuses offloads it does not know or that are not the packet's") {
  const Bytes tcp = offloaded({.payload = Bytes(100, 1)});
  const Bytes udp = offloaded({.tcp = false, .payload = Bytes(100, 1)});
  for (uint32_t type = 0; type < 256; ++type) {
    CAPTURE(type);
    VirtioNetHeader header = header_for(tcp, 50);
    header.gso_type = static_cast<uint8_t>(type);
    const bool is_tcp = type == kGsoTcp4 || type == (kGsoTcp4 | kGsoEcn);
    CHECK((fault_of(tcp, header) == SegmentFault::kNone) == is_tcp);
    header = header_for(udp, 50);
    header.gso_type = static_cast<uint8_t>(type);
    CHECK((fault_of(udp, header) == SegmentFault::kNone) == (type == kGsoUdpL4));
  }
  Bytes icmp = tcp;
  icmp[9] = 1;
  fix_checksum(icmp);
  CHECK(fault_of(icmp, header_for(tcp, 50)) == SegmentFault::kBadOffload);
}

TEST_CASE("segmenting refuses a gso_size of 0, fragments, and checksums elsewhere") {
  for (const bool tcp : {true, false}) {
    const Bytes packet = offloaded({.tcp = tcp, .payload = Bytes(100, 1)});
    CHECK(fault_of(packet, header_for(packet, 0)) == SegmentFault::kBadOffload);

    for (const uint16_t fragment : {0x2000, 0x0001, 0x1fff, 0x3001, 0x6000}) {
      const Bytes piece = offloaded({.tcp = tcp, .payload = Bytes(100, 1)}, {.fragment = fragment});
      CHECK(fault_of(piece, header_for(piece, 50)) == SegmentFault::kBadOffload);
    }
    for (const int step : {-20, -1, 1, 2}) {
      VirtioNetHeader header = header_for(packet, 50);
      header.checksum_start = static_cast<uint16_t>(header.checksum_start + step);
      CHECK(fault_of(packet, header) == SegmentFault::kBadOffload);
      header = header_for(packet, 50);
      header.checksum_offset = static_cast<uint16_t>(header.checksum_offset + step);
      CHECK(fault_of(packet, header) == SegmentFault::kBadOffload);
    }
  }
}

TEST_CASE("segmenting refuses transport headers that are short or reach beyond the packet") {
  for (const bool tcp : {true, false}) {
    const size_t header = tcp ? 20 : 8;
    for (size_t size = 0; size <= header; ++size) {
      PacketSpec spec{.protocol = static_cast<uint8_t>(tcp ? 6 : 17)};
      spec.payload = transport_bytes({.tcp = tcp});
      spec.payload.resize(size);
      const Bytes packet = make_packet(spec);
      CAPTURE(size);
      CHECK((fault_of(packet, header_for(packet, 50)) == SegmentFault::kNone) == (size == header));
    }
  }
  Bytes packet = offloaded({.payload = Bytes(10, 1)});
  for (uint32_t words = 0; words < 16; ++words) {
    packet[32] = static_cast<uint8_t>(words << 4 | 0xf);
    CAPTURE(words);
    CHECK((fault_of(packet, header_for(packet, 50)) == SegmentFault::kNone) ==
          (words >= 5 && words <= 7));
  }
  // A total length beyond the bytes is no packet at all.
  packet = offloaded({.payload = Bytes(10, 1)});
  packet.pop_back();
  CHECK(Cut(packet, header_for(packet, 50)).parsed == PacketFault::kBadLength);
}

TEST_CASE("complete_checksum finishes what a pseudo-header sum began, for segments not to be cut") {
  std::mt19937 random(6);
  for (int i = 0; i < 500; ++i) {
    const bool tcp = i % 2 == 0;
    Bytes packet = offloaded({.tcp = tcp, .payload = random_bytes(random() % 1500, random)},
                             {.options = 4 * (random() % 11)});
    VirtioNetHeader header = header_for(packet, 0);
    header.gso_type = kGsoNone;
    const size_t at = size_t{header.checksum_start} + header.checksum_offset;
    Bytes expected = packet;
    const uint16_t checksum = naive_transport_checksum(packet);
    put_word(expected, at, checksum == 0 ? 0xffff : checksum);
    // The sum of the pseudo header: what is left of the complement when nothing else counts.
    Bytes pseudo(packet.begin() + 12, packet.begin() + 20);
    pseudo.resize(12);
    pseudo[9] = packet[9];
    put_word(pseudo, 10, static_cast<uint32_t>(packet.size() - header.checksum_start));
    put_word(packet, at, 0xffffU - naive_checksum(pseudo));

    Ipv4Packet view;
    REQUIRE(Ipv4Packet::parse(packet, view) == PacketFault::kNone);
    Bytes untouched = packet;
    header.flags = kDataValid;
    REQUIRE(complete_checksum(header, view) == SegmentFault::kNone);
    REQUIRE(packet == untouched);
    header.flags = kNeedsChecksum;
    REQUIRE(complete_checksum(header, view) == SegmentFault::kNone);
    REQUIRE(packet == expected);
  }
}

TEST_CASE("complete_checksum refuses offsets outside of the packet's payload, as segments do") {
  const Bytes original = offloaded({.tcp = false, .payload = Bytes(4, 1)}, {.options = 4});
  REQUIRE(original.size() == 36);
  for (const uint32_t start : {0, 19, 20, 23, 24, 25, 30, 34, 35, 36, 37, 65535}) {
    for (const uint32_t offset : {0, 1, 6, 9, 10, 11, 12, 65534, 65535}) {
      Bytes packet = original;
      Ipv4Packet view;
      REQUIRE(Ipv4Packet::parse(packet, view) == PacketFault::kNone);
      const VirtioNetHeader header{.flags = kNeedsChecksum,
                                   .checksum_start = static_cast<uint16_t>(start),
                                   .checksum_offset = static_cast<uint16_t>(offset)};
      const bool inside = start >= 24 && start + offset + 2 <= 36;
      CAPTURE(start);
      CAPTURE(offset);
      CHECK((complete_checksum(header, view) == SegmentFault::kNone) == inside);
      if (!inside) CHECK(packet == original);
    }
  }
}

}  // namespace flannelette::test
