// Coalescing: each rule by name, and random batches cut apart again by a model of Linux.
#include "core/coalesce.h"

#include <doctest/doctest.h>

#include <deque>
#include <functional>
#include <random>
#include <string>

#include "core/segment.h"
#include "random_offload.h"
#include "tun_write.h"

namespace flannelette::test {

namespace {

constexpr uint8_t kFin = 0x01, kSyn = 0x02, kRst = 0x04, kPsh = 0x08, kAckFlag = 0x10, kUrg = 0x20,
                  kEceFlag = 0x40, kCwr = 0x80;

struct Spec {
  uint32_t source = kContainer2;
  uint32_t destination = kContainer1;
  uint16_t source_port = 40000;
  uint16_t destination_port = 5201;
  uint8_t tos = 0;
  uint8_t ttl = 62;
  uint16_t id = 100;
  uint16_t fragment = 0x4000;
  size_t ip_options = 0;
  size_t payload = 100;
  // TCP
  uint32_t sequence = 1000;
  uint32_t ack = 77;
  uint8_t reserved = 0;
  uint8_t flags = kAckFlag;
  uint16_t window = 502;
  uint16_t urgent = 0;
  Bytes options = {};
};

Bytes transport_packet(const Spec& spec, uint8_t protocol, Bytes transport) {
  for (size_t i = 0; i < spec.payload; ++i)
    transport.push_back(static_cast<uint8_t>(spec.sequence + i * 31 + spec.id));
  Bytes packet = make_packet({.source = spec.source,
                              .destination = spec.destination,
                              .ttl = spec.ttl,
                              .protocol = protocol,
                              .id = spec.id,
                              .fragment = spec.fragment,
                              .options = spec.ip_options,
                              .payload = std::move(transport)});
  packet[1] = spec.tos;
  fix_checksum(packet);
  if (spec.ip_options == 0) fix_transport_checksum(packet);
  return packet;
}

Bytes tcp(const Spec& spec) {
  Bytes header(20, 0);
  put_word(header, 0, spec.source_port);
  put_word(header, 2, spec.destination_port);
  put_long(header, 4, spec.sequence);
  put_long(header, 8, spec.ack);
  header[12] = static_cast<uint8_t>((20 + spec.options.size()) / 4 << 4 | spec.reserved);
  header[13] = spec.flags;
  put_word(header, 14, spec.window);
  put_word(header, 18, spec.urgent);
  header.insert(header.end(), spec.options.begin(), spec.options.end());
  return transport_packet(spec, 6, std::move(header));
}

Bytes udp(const Spec& spec) {
  Bytes header(8, 0);
  put_word(header, 0, spec.source_port);
  put_word(header, 2, spec.destination_port);
  put_word(header, 4, static_cast<uint32_t>(8 + spec.payload));
  return transport_packet(spec, 17, std::move(header));
}

// The n-th of equal packets of a flow.
Spec nth(Spec spec, size_t n) {
  spec.sequence += static_cast<uint32_t>(n * spec.payload);
  spec.id = static_cast<uint16_t>(spec.id + n);
  return spec;
}

Bytes timestamps(uint32_t value) {
  Bytes out = {1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 9};
  put_long(out, 4, value);
  return out;
}

struct Batch {
  explicit Batch(CoalesceOptions options = {}, size_t capacity = kCoalesceCapacity)
      : coalescer(options, capacity) {}

  bool add(const Bytes& packet) {
    Ipv4Packet view;
    // An exact copy of its own, for AddressSanitizer.
    arena.push_back(packet);
    REQUIRE(Ipv4Packet::parse(arena.back(), view) == PacketFault::kNone);
    if (!coalescer.add(view)) return false;
    packets.push_back(packet);
    views.push_back(view);
    return true;
  }

  void clear() {
    coalescer.clear();
    arena.clear();
    packets.clear();
    views.clear();
  }

  // Packets of each train, after the whole batch was checked.
  std::vector<size_t> trains() {
    const char* objection = batch_objection(coalescer, packets, views, order);
    CHECK(std::string(objection == nullptr ? "" : objection) == "");
    std::vector<size_t> counts;
    for (size_t i = 0; i < coalescer.size(); ++i) counts.push_back(coalescer.packets(i));
    return counts;
  }

  TunWrite write(size_t train) {
    TunHeader header;
    std::array<Piece, kPiecesMax> pieces;
    return tun_write(std::span(pieces).first(coalescer.gather(train, header, pieces)));
  }

  Coalescer coalescer;
  std::deque<Bytes> arena;
  std::vector<Bytes> packets;
  std::vector<Ipv4Packet> views;
  std::vector<size_t> order;
};

using Counts = std::vector<size_t>;

Counts trains_of(const std::vector<Bytes>& packets, CoalesceOptions options = {}) {
  Batch batch(options);
  for (const Bytes& packet : packets) REQUIRE(batch.add(packet));
  return batch.trains();
}

struct Change {
  std::string name;
  std::function<void(Spec&)> apply;
};

// The middle one of three packets differs in one respect: none may share a train.
void check_apart(const std::vector<Change>& changes, Bytes (*make)(const Spec&), Spec base = {}) {
  for (const Change& change : changes) {
    CAPTURE(change.name);
    Spec middle = nth(base, 1);
    change.apply(middle);
    CHECK(trains_of({make(nth(base, 0)), make(middle), make(nth(base, 2))}) == Counts{1, 1, 1});
  }
}

const std::vector<Change> kIpChanges = {
    {"tos", [](Spec& s) { s.tos = 0x10; }},
    {"ecn", [](Spec& s) { s.tos = 3; }},
    {"ttl", [](Spec& s) { s.ttl = 63; }},
    {"df", [](Spec& s) { s.fragment = 0; }},
    {"reserved bit", [](Spec& s) { s.fragment = 0xc000; }},
    {"more fragments", [](Spec& s) { s.fragment = 0x2000; }},
    {"a later fragment", [](Spec& s) { s.fragment = 100; }},
    {"ip options", [](Spec& s) { s.ip_options = 4; }},
    {"id skips", [](Spec& s) { s.id += 5; }},
    {"id goes back", [](Spec& s) { s.id -= 2; }},
    {"empty", [](Spec& s) { s.payload = 0; }},
};

}  // namespace

TEST_CASE("coalesce: 44 equal TCP segments are one write, declared as Linux wants it") {
  Batch batch;
  const Spec base{.payload = 1420, .options = timestamps(5)};
  for (size_t i = 0; i < 44; ++i) REQUIRE(batch.add(tcp(nth(base, i))));
  CHECK(batch.trains() == Counts{44});
  CHECK(batch.coalescer.bytes(0) == 44 * (52 + 1420));
  const TunWrite write = batch.write(0);
  CHECK(write.packet.size() == 52 + 44 * 1420);
  CHECK(write.offload.flags == kNeedsChecksum);
  CHECK(write.offload.gso_type == kGsoTcp4);
  CHECK(write.offload.header_length == 52);
  CHECK(write.offload.gso_size == 1420);
  CHECK(write.offload.checksum_start == 20);
  CHECK(write.offload.checksum_offset == 16);
}

TEST_CASE("coalesce: equal UDP datagrams are one write, at most 64 of them") {
  Batch batch;
  for (size_t i = 0; i < 130; ++i) REQUIRE(batch.add(udp(nth({.payload = 36}, i))));
  CHECK(batch.trains() == Counts{64, 64, 2});
  const TunWrite write = batch.write(0);
  CHECK(write.packet.size() == 28 + 64 * 36);
  CHECK(write.offload.flags == kNeedsChecksum);
  CHECK(write.offload.gso_type == kGsoUdpL4);
  CHECK(write.offload.header_length == 28);
  CHECK(write.offload.gso_size == 36);
  CHECK(write.offload.checksum_start == 20);
  CHECK(write.offload.checksum_offset == 6);
}

TEST_CASE("coalesce: a single travels as it came behind a header of zeros") {
  Batch batch;
  const Bytes packet = tcp({});
  REQUIRE(batch.add(packet));
  CHECK(batch.trains() == Counts{1});
  CHECK(batch.write(0).packet == packet);
  CHECK(batch.coalescer.bytes(0) == packet.size());
}

TEST_CASE("coalesce: nothing is an empty batch, and so is a cleared one") {
  Batch batch;
  CHECK(batch.trains().empty());
  REQUIRE(batch.add(tcp(nth({}, 0))));
  REQUIRE(batch.add(tcp(nth({}, 1))));
  batch.clear();
  CHECK(batch.trains().empty());
  // The train of the last batch is not open any more.
  REQUIRE(batch.add(tcp(nth({}, 2))));
  REQUIRE(batch.add(udp(nth({}, 0))));
  REQUIRE(batch.add(tcp(nth({}, 3))));
  CHECK(batch.trains() == Counts{2, 1});
}

TEST_CASE("coalesce: what differs in an IP field stays apart") {
  check_apart(kIpChanges, tcp);
  check_apart(kIpChanges, udp);
}

TEST_CASE("coalesce: what differs in a TCP field stays apart") {
  std::vector<Change> changes = {
      {"sequence gap", [](Spec& s) { s.sequence += 1; }},
      {"retransmission", [](Spec& s) { s.sequence -= 100; }},
      {"ack", [](Spec& s) { s.ack += 1; }},
      {"window", [](Spec& s) { s.window += 1; }},
      {"urgent pointer", [](Spec& s) { s.urgent = 1; }},
      {"reserved bits", [](Spec& s) { s.reserved = 1; }},
      {"timestamp", [](Spec& s) { s.options = timestamps(6); }},
      {"no options", [](Spec& s) { s.options = {}; }},
      {"more options", [](Spec& s) { s.options.insert(s.options.end(), 4, 1); }},
      {"no ack", [](Spec& s) { s.flags = 0; }},
  };
  for (const uint8_t flag : {kFin, kSyn, kRst, kUrg, kEceFlag, kCwr})
    changes.push_back({"flag", [flag](Spec& s) { s.flags |= flag; }});
  check_apart(changes, tcp, {.options = timestamps(5)});
}

TEST_CASE("coalesce: SYN, FIN, RST, URG and CWR never share a train, not even with their like") {
  for (const uint8_t flag : {kFin, kSyn, kRst, kUrg, kCwr}) {
    const Spec base{.flags = static_cast<uint8_t>(kAckFlag | flag)};
    CAPTURE(flag);
    CHECK(trains_of({tcp(nth(base, 0)), tcp(nth(base, 1))}) == Counts{1, 1});
  }
  const Spec reserved{.reserved = 4};
  CHECK(trains_of({tcp(nth(reserved, 0)), tcp(nth(reserved, 1))}) == Counts{1, 1});
}

TEST_CASE("coalesce: ECE on all, CE on all or ECT on all is no hindrance") {
  const Spec ece{.flags = kAckFlag | kEceFlag};
  CHECK(trains_of({tcp(nth(ece, 0)), tcp(nth(ece, 1)), tcp(nth(ece, 2))}) == Counts{3});
  for (const uint8_t ecn : {1, 2, 3}) {
    const Spec base{.tos = ecn};
    CHECK(trains_of({tcp(nth(base, 0)), tcp(nth(base, 1))}) == Counts{2});
    CHECK(trains_of({udp(nth(base, 0)), udp(nth(base, 1))}) == Counts{2});
  }
}

TEST_CASE("coalesce: PSH ends a train and is on its last segment only") {
  std::vector<Bytes> packets;
  for (size_t i = 0; i < 6; ++i) {
    Spec spec = nth({}, i);
    if (i == 2) spec.flags |= kPsh;
    packets.push_back(tcp(spec));
  }
  CHECK(trains_of(packets) == Counts{3, 3});
  // A first segment with PSH is a train of one.
  CHECK(trains_of({packets[2], packets[3], packets[4]}) == Counts{1, 2});
}

TEST_CASE("coalesce: a shorter segment is the last of its train") {
  for (const auto make : {tcp, udp}) {
    Spec shorter = nth({}, 2);
    shorter.payload = 1;
    Spec next = shorter;
    next.sequence += 1;
    next.id += 1;
    Spec after = nth(next, 1);
    CHECK(trains_of({make(nth({}, 0)), make(nth({}, 1)), make(shorter), make(next), make(after)}) ==
          Counts{3, 2});
  }
}

TEST_CASE("coalesce: a longer segment begins a train of its own") {
  for (const auto make : {tcp, udp}) {
    Spec longer = nth({}, 2);
    longer.payload = 101;
    Spec after = nth(longer, 1);
    CHECK(trains_of({make(nth({}, 0)), make(nth({}, 1)), make(longer), make(after)}) ==
          Counts{2, 2});
  }
}

TEST_CASE("coalesce: pure ACKs travel alone and in their place") {
  Spec ack = nth({}, 2);
  ack.payload = 0;
  Spec next = nth({}, 2);
  next.id += 1;
  Batch batch;
  for (const Bytes& packet : {tcp(nth({}, 0)), tcp(nth({}, 1)), tcp(ack), tcp(next)})
    REQUIRE(batch.add(packet));
  CHECK(batch.trains() == Counts{2, 1, 1});
  CHECK(batch.order == Counts{0, 1, 2, 3});
  CHECK(trains_of({tcp({.id = 1, .payload = 0}), tcp({.id = 2, .payload = 0})}) == Counts{1, 1});
}

TEST_CASE("coalesce: sequence numbers and IDs wrap") {
  CHECK(trains_of({tcp(nth({.id = 0xffff, .sequence = 0xffffff9c}, 0)),
                   tcp(nth({.id = 0xffff, .sequence = 0xffffff9c}, 1)),
                   tcp(nth({.id = 0xffff, .sequence = 0xffffff9c}, 2))}) == Counts{3});
}

TEST_CASE("coalesce: IDs ascend, or stay the same with DF; never mixed") {
  const auto ids = [](std::vector<uint16_t> ids, uint16_t fragment, Bytes (*make)(const Spec&)) {
    std::vector<Bytes> packets;
    for (const uint16_t id : ids) {
      Spec spec = nth({.fragment = fragment}, packets.size());
      spec.id = id;
      packets.push_back(make(spec));
    }
    return trains_of(packets);
  };
  for (const auto make : {tcp, udp}) {
    CHECK(ids({7, 8, 9}, 0x4000, make) == Counts{3});
    CHECK(ids({7, 8, 9}, 0, make) == Counts{3});
    CHECK(ids({0, 0, 0}, 0x4000, make) == Counts{3});
    CHECK(ids({0, 0, 0}, 0, make) == Counts{1, 1, 1});
    CHECK(ids({7, 7, 8}, 0x4000, make) == Counts{2, 1});
    CHECK(ids({7, 8, 8}, 0x4000, make) == Counts{2, 1});
    CHECK(ids({7, 8, 7}, 0x4000, make) == Counts{2, 1});
    CHECK(ids({9, 8, 7}, 0x4000, make) == Counts{1, 1, 1});
  }
}

TEST_CASE("coalesce: a train is at most 65,535 bytes") {
  for (const size_t payload : {1400, 1420, 8960, 32747, 32748, 65495}) {
    CAPTURE(payload);
    const size_t most = std::min((65535 - 40) / payload, kTrainPacketsMax);
    std::vector<Bytes> packets;
    for (size_t i = 0; i <= most; ++i) packets.push_back(tcp(nth({.payload = payload}, i)));
    CHECK(trains_of(packets) == Counts{most, 1});
  }
  // Exactly full by a shorter last one, and one byte too long.
  const Bytes longer = tcp(nth({.payload = 32748}, 0));
  Spec last = nth({.payload = 32748}, 1);
  last.payload = 32747;
  CHECK(trains_of({longer, tcp(last)}) == Counts{2});
  last.payload = 32748;
  CHECK(trains_of({longer, tcp(last)}) == Counts{1, 1});
  std::vector<Bytes> datagrams;
  for (size_t i = 0; i < 50; ++i) datagrams.push_back(udp(nth({.payload = 1400}, i)));
  CHECK(trains_of(datagrams) == Counts{46, 4});
}

TEST_CASE("coalesce: a train has at most kTrainPacketsMax packets") {
  std::vector<Bytes> packets;
  for (size_t i = 0; i < kTrainPacketsMax + 2; ++i) packets.push_back(tcp(nth({.payload = 10}, i)));
  CHECK(trains_of(packets) == Counts{kTrainPacketsMax, 2});
}

TEST_CASE("coalesce: a wrong checksum travels alone, unchanged, wherever it comes") {
  for (const auto make : {tcp, udp}) {
    for (size_t wrong = 0; wrong < 4; ++wrong) {
      for (const size_t at : {size_t{26}, size_t{45}, size_t{119}}) {
        std::vector<Bytes> packets;
        for (size_t i = 0; i < 4; ++i) packets.push_back(make(nth({}, i)));
        packets[wrong][at] ^= 0x40;
        // Not a checksum of 0 but a UDP length that lies, or a sequence gap: apart all the same.
        CAPTURE(wrong);
        CAPTURE(at);
        Counts expected;
        if (wrong > 0) expected.push_back(wrong);
        expected.push_back(1);
        if (wrong < 3) expected.push_back(3 - wrong);
        CHECK(trains_of(packets) == expected);
      }
    }
  }
}

TEST_CASE("coalesce: a wrong checksum that would be made right is not") {
  // Wrong by the same amount in both: only a look at each shows it.
  for (const auto make : {tcp, udp}) {
    std::vector<Bytes> packets = {make(nth({}, 0)), make(nth({}, 1))};
    const size_t at = packets[0][9] == 17 ? 26 : 36;
    for (Bytes& packet : packets) put_word(packet, at, word_at(packet, at) ^ 1U);
    CHECK(trains_of(packets) == Counts{1, 1});
  }
}

TEST_CASE("coalesce: UDP without a checksum, empty, or with a length that lies stays single") {
  std::vector<Bytes> packets = {udp(nth({}, 0)), udp(nth({}, 1)), udp(nth({}, 2))};
  for (Bytes& packet : packets) put_word(packet, 26, 0);
  CHECK(trains_of(packets) == Counts{1, 1, 1});
  CHECK(trains_of({udp({.id = 1, .payload = 0}), udp({.id = 2, .payload = 0})}) == Counts{1, 1});
  for (const int by : {-1, 1, 8}) {
    packets = {udp(nth({}, 0)), udp(nth({}, 1))};
    for (Bytes& packet : packets) {
      put_word(packet, 24, static_cast<uint32_t>(word_at(packet, 24) + by));
      fix_transport_checksum(packet);
    }
    CHECK(trains_of(packets) == Counts{1, 1});
  }
}

TEST_CASE("coalesce: checksums that Linux would write differently stay single") {
  // The two spellings of zero: a sum that comes out as 0 may be stored as 0 or, but for UDP, as
  // 0xffff. Bytes of the payload are chosen so that it does come out as 0.
  for (const auto make : {tcp, udp}) {
    std::vector<Bytes> packets;
    for (size_t i = 0; i < 3; ++i) {
      Bytes packet = make(nth({}, i));
      const size_t field = packet[9] == 17 ? 26 : 36;
      // Moving the checksum's value into a payload word leaves a sum of ~0.
      put_word(packet, 50, 0);
      put_word(packet, 50, transport_checksum(packet));
      put_word(packet, field, 0xffff);
      packets.push_back(packet);
    }
    CHECK(transport_checksum(packets[0]) == (packets[0][9] == 17 ? 0xffff : 0));
    CHECK(trains_of(packets) == (packets[0][9] == 17 ? Counts{3} : Counts{1, 1, 1}));
    if (packets[0][9] == 17) continue;
    for (Bytes& packet : packets) put_word(packet, 36, 0);
    CHECK(trains_of(packets) == Counts{3});
  }
  // The same in the IP header: the ID makes the sum come out.
  std::vector<Bytes> packets;
  Spec spec;
  spec.id = 0;
  const Bytes sample = tcp(spec);
  spec.id = word_at(sample, 10);
  Bytes first = tcp(spec);
  REQUIRE(word_at(first, 10) == 0);
  put_word(first, 10, 0xffff);
  CHECK(trains_of({first, tcp(nth(spec, 1))}) == Counts{1, 1});
  put_word(first, 10, 0);
  CHECK(trains_of({first, tcp(nth(spec, 1))}) == Counts{2});
}

TEST_CASE("coalesce: TCP headers that lie stay single") {
  for (const uint8_t words : {0, 4, 15}) {
    std::vector<Bytes> packets = {tcp(nth({.payload = 8}, 0)), tcp(nth({.payload = 8}, 1))};
    for (Bytes& packet : packets) {
      packet[32] = static_cast<uint8_t>(words << 4);
      fix_transport_checksum(packet);
    }
    CHECK(trains_of(packets) == Counts{1, 1});
  }
  // Cut off within the transport header, down to nothing.
  for (const uint8_t protocol : {6, 17}) {
    for (size_t length = 0; length < 20; ++length) {
      const Bytes packet = make_packet({.protocol = protocol, .payload = Bytes(length, 0x50)});
      CHECK(trains_of({packet, packet}) == Counts{1, 1});
    }
  }
}

TEST_CASE("coalesce: other protocols are singles in their order") {
  for (const uint8_t protocol : {0, 1, 4, 33, 47, 50, 132, 136, 255}) {
    const Bytes packet =
        make_packet({.protocol = protocol, .fragment = 0x4000, .payload = Bytes(60, 0x50)});
    CHECK(trains_of({packet, packet, packet}) == Counts{1, 1, 1});
  }
}

TEST_CASE("coalesce: flows interleave and keep their trains open") {
  const std::vector<Change> flows = {{"", [](Spec&) {}},
                                     {"", [](Spec& s) { s.source += 1; }},
                                     {"", [](Spec& s) { s.destination += 1; }},
                                     {"", [](Spec& s) { s.source_port += 1; }},
                                     {"", [](Spec& s) { s.destination_port += 1; }}};
  Batch batch;
  for (size_t i = 0; i < 10; ++i) {
    for (const Change& flow : flows) {
      Spec spec = nth({}, i);
      flow.apply(spec);
      REQUIRE(batch.add(tcp(spec)));
      REQUIRE(batch.add(udp(spec)));
    }
    // Something of no flow in between.
    REQUIRE(batch.add(make_packet({.source = kContainer2, .protocol = 1, .payload = Bytes(8)})));
  }
  const Counts counts = batch.trains();
  REQUIRE(counts.size() == 20);
  for (size_t i = 0; i < 20; ++i) CHECK(counts[i] == (i < 10 ? 10 : 1));
}

TEST_CASE("coalesce: what cannot join closes its flow's train and no other") {
  Spec other;
  other.source_port = 1;
  Spec syn = nth({}, 2);
  syn.flags = kSyn;
  Batch batch;
  for (const Bytes& packet : {tcp(nth({}, 0)), tcp(nth(other, 0)), udp(nth({}, 0)), tcp(nth({}, 1)),
                              tcp(syn), tcp(nth({}, 2)), tcp(nth(other, 1)), udp(nth({}, 1))})
    REQUIRE(batch.add(packet));
  CHECK(batch.trains() == Counts{2, 2, 2, 1, 1});
  CHECK(batch.order == Counts{0, 3, 1, 6, 2, 7, 4, 5});
}

TEST_CASE("coalesce: IP options do not hide the ports") {
  Spec options = nth({}, 1);
  options.ip_options = 8;
  Spec other;
  other.source_port = 1;
  CHECK(trains_of({tcp(nth({}, 0)), tcp(nth(other, 0)), tcp(options), tcp(nth({}, 1)),
                   tcp(nth(other, 1))}) == Counts{1, 2, 1, 1});
}

TEST_CASE("coalesce: a fragment closes every train between its addresses") {
  for (const uint16_t fragment : {0x2000, 0x2001, 0x0001}) {
    for (const uint8_t protocol : {6, 17, 1}) {
      Spec elsewhere;
      elsewhere.source = kContainer3;
      Batch batch;
      const Bytes piece = make_packet({.source = kContainer2,
                                       .destination = kContainer1,
                                       .protocol = protocol,
                                       .fragment = fragment,
                                       .payload = Bytes(16, 9)});
      for (const Bytes& packet :
           {tcp(nth({}, 0)), udp(nth({}, 0)), tcp(nth(elsewhere, 0)), piece, tcp(nth({}, 1)),
            udp(nth({}, 1)), tcp(nth(elsewhere, 1)), tcp(nth({}, 2))})
        REQUIRE(batch.add(packet));
      CHECK(batch.trains() == Counts{1, 1, 2, 1, 2, 1});
    }
  }
}

TEST_CASE("coalesce: sixteen flows at a time, more close the oldest") {
  const auto batch_of = [](size_t flows) {
    std::vector<Bytes> packets;
    for (size_t i = 0; i < 4; ++i) {
      for (size_t flow = 0; flow < flows; ++flow) {
        Spec spec = nth({}, i);
        spec.source_port = static_cast<uint16_t>(1000 + flow);
        packets.push_back(tcp(spec));
      }
    }
    return trains_of(packets);
  };
  CHECK(batch_of(16) == Counts(16, 4));
  CHECK(batch_of(17) == Counts(17 * 4, 1));
  // Closing the oldest hurts only the oldest.
  Batch batch;
  for (size_t flow = 0; flow < 17; ++flow) {
    Spec spec;
    spec.source_port = static_cast<uint16_t>(1000 + flow);
    REQUIRE(batch.add(tcp(spec)));
  }
  for (size_t flow = 17; flow-- > 0;) {
    Spec spec = nth({}, 1);
    spec.source_port = static_cast<uint16_t>(1000 + flow);
    REQUIRE(batch.add(tcp(spec)));
  }
  Counts expected(18, 2);
  expected.front() = expected.back() = 1;
  CHECK(batch.trains() == expected);
}

TEST_CASE("coalesce: each kind can be switched off, also in the middle of a batch") {
  const std::vector<Bytes> packets = {tcp(nth({}, 0)), udp(nth({}, 0)), tcp(nth({}, 1)),
                                      udp(nth({}, 1))};
  CHECK(trains_of(packets, {.tcp = true, .udp = false}) == Counts{2, 1, 1});
  CHECK(trains_of(packets, {.tcp = false, .udp = true}) == Counts{1, 2, 1});
  CHECK(trains_of(packets, {.tcp = false, .udp = false}) == Counts{1, 1, 1, 1});
  Batch batch;
  for (size_t i = 0; i < 6; ++i) {
    batch.coalescer.set_options({.tcp = i != 2});
    REQUIRE(batch.add(tcp(nth({}, i))));
  }
  CHECK(batch.trains() == Counts{2, 1, 3});
}

TEST_CASE("coalesce: a full batch takes nothing until it is cleared") {
  for (const size_t capacity : {1, 2, 7}) {
    Batch batch({}, capacity);
    for (int round = 0; round < 3; ++round) {
      for (size_t i = 0; i < capacity; ++i) REQUIRE(batch.add(tcp(nth({}, i))));
      CHECK(!batch.add(tcp(nth({}, capacity))));
      CHECK(!batch.add(udp({})));
      CHECK(batch.trains() == Counts{capacity});
      batch.clear();
    }
    // As many trains as packets.
    for (size_t i = 0; i < capacity; ++i) REQUIRE(batch.add(tcp({.payload = 0})));
    CHECK(!batch.add(tcp({})));
    CHECK(batch.trains() == Counts(capacity, 1));
  }
}

namespace {

// A sender whose stream of packets goes on from batch to batch, with everything that happens to
// streams.
struct Sender {
  bool is_tcp = true;
  bool fixed_id = false;
  size_t segment = 100;
  Spec spec;

  Bytes next(std::mt19937& random) {
    const auto one_in = [&](uint32_t n) { return random() % n == 0; };
    Spec now = spec;
    now.payload = segment;
    if (one_in(8)) now.payload = random() % (segment + 20);
    if (one_in(40)) segment = 1 + random() % 300;
    if (is_tcp) {
      if (one_in(8)) now.flags |= kPsh;
      if (one_in(40)) now.flags |= static_cast<uint8_t>(1U << random() % 8);
      if (one_in(40)) now.reserved = static_cast<uint8_t>(random() % 16);
      if (one_in(40)) spec.ack += 100;
      if (one_in(40)) spec.window = static_cast<uint16_t>(random());
      if (one_in(40)) spec.flags ^= kEceFlag;
      if (one_in(60)) spec.sequence += 1;
      if (one_in(40))
        spec.options = one_in(2) ? timestamps(random() % 3) : Bytes(random() % 11 * 4, 1);
      spec.sequence += static_cast<uint32_t>(now.payload);
    }
    if (one_in(60)) spec.tos ^= static_cast<uint8_t>(1U << random() % 8);
    if (one_in(60)) spec.ttl ^= 1;
    if (one_in(60)) spec.fragment ^= 0x4000;
    if (one_in(60)) spec.id = static_cast<uint16_t>(random());
    if (one_in(60)) fixed_id = !fixed_id;
    if (one_in(60)) now.ip_options = 4 * (random() % 4);
    if (one_in(60)) now.fragment = static_cast<uint16_t>(random());
    if (!fixed_id) ++spec.id;
    Bytes packet = is_tcp ? tcp(now) : udp(now);
    const size_t header = 20 + now.ip_options;
    if (one_in(30)) packet[header + random() % (packet.size() - header)] ^= 1U << random() % 8;
    if (!is_tcp && one_in(60) && now.ip_options == 0) put_word(packet, 26, 0);
    return packet;
  }
};

}  // namespace

TEST_CASE("coalesce: random interleavings, cut as Linux would, are the packets that came") {
  std::mt19937 random(20240607);
  size_t packets = 0;
  size_t trains = 0;
  size_t longest = 0;
  Batch batch;
  for (int round = 0; round < 2000; ++round) {
    std::vector<Sender> senders(1 + random() % (round % 10 == 0 ? 24 : 6));
    for (Sender& sender : senders) {
      sender.is_tcp = random() % 3 != 0;
      sender.fixed_id = random() % 4 == 0;
      sender.segment = 1 + random() % (random() % 8 == 0 ? 1420 : 200);
      sender.spec.source += random() % 3;
      sender.spec.source_port = static_cast<uint16_t>(1 + random() % 3);
      sender.spec.id = static_cast<uint16_t>(random());
      sender.spec.sequence = static_cast<uint32_t>(random());
      if (random() % 2 == 0) sender.spec.options = timestamps(1);
    }
    const size_t burst = 1 + random() % 12;
    for (size_t i = 0; i < 80;) {
      if (random() % 20 == 0) {
        PacketSpec ping{.source = kContainer2, .destination = kContainer1, .protocol = 1};
        ping.payload.assign(random() % 40, 1);
        REQUIRE(batch.add(make_packet(ping)));
        ++i;
      }
      Sender& sender = senders[random() % senders.size()];
      for (size_t n = 1 + random() % burst; n > 0 && i < 80; --n, ++i)
        REQUIRE(batch.add(sender.next(random)));
    }
    for (const size_t count : batch.trains()) {
      ++trains;
      packets += count;
      longest = std::max(longest, count);
    }
    batch.clear();
  }
  // It would be easy to pass by never merging.
  CHECK(packets >= 160000);
  CHECK(trains * 3 < packets * 2);
  CHECK(longest >= 20);
}

// What the segments of a packet become when they are coalesced again.
struct Rejoined {
  std::vector<Bytes> segments;
  std::vector<TunWrite> writes;
  const char* objection = nullptr;
};

Rejoined rejoin(OffloadPacket offload) {
  Rejoined out;
  Ipv4Packet packet;
  SegmentPlan plan;
  REQUIRE(Ipv4Packet::parse(offload.bytes, packet) == PacketFault::kNone);
  REQUIRE(SegmentPlan::make(offload.offload, packet, plan) == SegmentFault::kNone);
  Bytes all(plan.bytes());
  plan.write(all);
  Coalescer coalescer({});
  std::vector<Ipv4Packet> views;
  for (size_t i = 0; i < plan.count(); ++i) {
    const std::span<uint8_t> bytes = std::span(all).subspan(i * plan.length(), plan.bytes(i, 1));
    Ipv4Packet segment;
    REQUIRE(Ipv4Packet::parse(bytes, segment) == PacketFault::kNone);
    REQUIRE(coalescer.add(segment));
    views.push_back(segment);
    out.segments.emplace_back(bytes.begin(), bytes.end());
  }
  std::vector<size_t> order;
  out.objection = batch_objection(coalescer, out.segments, views, order);
  for (size_t train = 0; train < coalescer.size(); ++train) {
    TunHeader header;
    std::vector<Piece> pieces(coalescer.packets(train) + 1);
    const size_t count = coalescer.gather(train, header, pieces);
    out.writes.push_back(tun_write(std::span(pieces).first(count)));
  }
  return out;
}

TEST_CASE("coalesce: the segments of a packet are that packet, byte by byte") {
  RandomOffload random(7);
  const OffloadRange range{.ip_options_max = 0, .segments_max = 64, .plain_flags = true};
  for (int i = 0; i < 3000; ++i) {
    OffloadPacket packet = random.next(range);
    packet.offload.gso_type &= static_cast<uint8_t>(~kGsoEcn);
    const Rejoined rejoined = rejoin(packet);
    REQUIRE(rejoined.objection == nullptr);
    REQUIRE(rejoined.writes.size() == 1);
    CHECK(rejoined.writes[0].packet == packet.bytes);
    CHECK(std::memcmp(&rejoined.writes[0].offload, &packet.offload, sizeof(packet.offload)) == 0);
  }
}

TEST_CASE("coalesce: the segments of any packet, cut as Linux would after, are the same") {
  RandomOffload random(8);
  size_t trains = 0;
  for (int i = 0; i < 3000; ++i) {
    const Rejoined rejoined = rejoin(random.next({}));
    REQUIRE(rejoined.objection == nullptr);
    if (rejoined.writes.size() < rejoined.segments.size()) ++trains;
    std::vector<Bytes> again;
    for (const TunWrite& write : rejoined.writes)
      for (Bytes& segment : cut(write)) again.push_back(std::move(segment));
    CHECK(again == rejoined.segments);
  }
  // Many have IP options or flags that never share a train.
  CHECK(trains > 500);
}

}  // namespace flannelette::test
