// Encapsulation to a next hop behind a shorter path, against a scripted kernel: nothing longer than
// the path takes is sent, in any mode, and who may not be fragmented is told.
#include <doctest/doctest.h>
#include <sys/eventfd.h>

#include "core/path_mtu_probe.h"
#include "engine/encapsulation.h"
#include "scripted_io.h"

namespace flannelette::test {

namespace {

constexpr uint16_t kLimit = 1372;
constexpr uint16_t kDf = 0x4000;

// A rig that knows paths.
struct PathRig : Rig {
  PathMtuTable table;
  OwnedFd wake{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};

  DirectionContext with_paths(Mode mode) {
    DirectionContext out = context(mode);
    out.path_mtus = &table;
    out.path_mtu_fd = wake.get();
    return out;
  }
  bool woken() {
    eventfd_t times = 0;
    return ::eventfd_read(wake.get(), &times) == 0;
  }
};

Bytes payload_of(const std::vector<SentDatagram>& sent) {
  Bytes out;
  for (const SentDatagram& datagram : sent) {
    Bytes bytes = datagram.bytes;
    Ipv4Packet view;
    REQUIRE(Ipv4Packet::parse(bytes, view) == PacketFault::kNone);
    CHECK(bytes.size() <= kLimit);
    CHECK(view.ttl() == 63);
    out.insert(out.end(), view.payload().begin(), view.payload().end());
  }
  return out;
}

}  // namespace

TEST_CASE("path MTU: DF and too long is answered with the path's MTU, the rest is sent") {
  for (const Mode mode : {Mode::kBasic, Mode::kBatch, Mode::kOffload}) {
    PathRig rig;
    REQUIRE(rig.table.put(kNode2, kLimit));
    Encapsulation encapsulation(rig.with_paths(mode));
    for (const size_t size : {1372U, 1373U, 1472U})
      rig.io.tun_reads.push_back({numbered_packet(1, size, {.fragment = kDf}), 0});
    encapsulation.carry();
    CHECK(rig.io.sent.size() == 1);
    CHECK(drops(encapsulation, DropReason::kPathMtu) == 2);
    CHECK(encapsulation.counters().icmp_frag_needed.get() == 2);
    REQUIRE(rig.io.raw.size() == 2);
    const Bytes& error = rig.io.raw[0].bytes;
    CHECK(rig.io.raw[0].destination == kContainer1);
    CHECK(error[20] == 3);
    CHECK(error[21] == 4);
    CHECK(word_at(error, 24) == 0);
    CHECK(word_at(error, 26) == kLimit);
    CHECK(naive_checksum(std::span(error).subspan(20)) == 0);
    // The quote is the packet as it came, its TTL included.
    CHECK(Bytes(error.begin() + 28, error.begin() + 48) == Bytes([] {
            const Bytes packet = numbered_packet(1, 1373, {.fragment = kDf});
            return Bytes(packet.begin(), packet.begin() + 20);
          }()));
  }
}

TEST_CASE("path MTU: without DF it is fragmented, in order with the others") {
  for (const Mode mode : {Mode::kBasic, Mode::kBatch, Mode::kOffload}) {
    PathRig rig;
    REQUIRE(rig.table.put(kNode2, kLimit));
    Encapsulation encapsulation(rig.with_paths(mode));
    const Bytes first = numbered_packet(1, 1472);
    const Bytes second = numbered_packet(2, 9000);
    rig.io.tun_reads = {{first, 0}, {second, 0}, {numbered_packet(3, 100), 0}};
    encapsulation.carry();
    REQUIRE(rig.io.sent.size() == 2 + 7 + 1);
    const auto at = rig.io.sent.begin();
    CHECK(payload_of({at, at + 2}) == Bytes(first.begin() + 20, first.end()));
    CHECK(payload_of({at + 2, at + 9}) == Bytes(second.begin() + 20, second.end()));
    CHECK(rig.io.sent[9].bytes == one_hop_later(numbered_packet(3, 100)));
    CHECK(all_drops(encapsulation) == 0);
  }
}

TEST_CASE("path MTU: a large TCP packet is cut into segments that fit, DF or not") {
  for (const uint8_t df : {0x00, 0x40}) {
    PathRig rig;
    REQUIRE(rig.table.put(kNode2, kLimit));
    Encapsulation encapsulation(rig.with_paths(Mode::kOffload));
    Bytes large = tcp_packet({.payload = 20 * 1432 + 77});
    large[6] = df;
    fix_checksum(large);
    VirtioNetHeader header;
    header.flags = kNeedsChecksum;
    header.gso_type = kGsoTcp4;
    header.gso_size = 1432;
    header.checksum_start = 20;
    header.checksum_offset = 16;
    rig.io.tun_reads = {{large, 0, header}};
    encapsulation.carry();
    CHECK(rig.io.sent.size() == (20 * 1432 + 77 - 1) / (kLimit - 40) + 1);
    Bytes joined;
    for (const SentDatagram& datagram : rig.io.sent) {
      CHECK(datagram.bytes.size() <= kLimit);
      CHECK(word_at(datagram.bytes, 36) == transport_checksum(datagram.bytes));
      joined.insert(joined.end(), datagram.bytes.begin() + 40, datagram.bytes.end());
    }
    CHECK(joined == Bytes(large.begin() + 40, large.end()));
    CHECK(rig.io.trains == 1);
    CHECK(all_drops(encapsulation) == 0);
  }
}

TEST_CASE("path MTU: datagrams of a UDP train stay datagrams: fragmented, or answered with DF") {
  for (const bool df : {false, true}) {
    PathRig rig;
    REQUIRE(rig.table.put(kNode2, kLimit));
    Encapsulation encapsulation(rig.with_paths(Mode::kOffload));
    Bytes large = make_packet(
        {.fragment = static_cast<uint16_t>(df ? kDf : 0), .payload = Bytes(8 + 3 * 1444, 0x5a)});
    VirtioNetHeader header;
    header.flags = kNeedsChecksum;
    header.gso_type = kGsoUdpL4;
    header.gso_size = 1444;
    header.checksum_start = 20;
    header.checksum_offset = 6;
    rig.io.tun_reads = {{large, 0, header}};
    encapsulation.carry();
    CHECK(rig.io.sent.size() == (df ? 0 : 6));
    CHECK(rig.io.raw.size() == (df ? 1 : 0));
    CHECK(drops(encapsulation, DropReason::kPathMtu) == (df ? 3 : 0));
    for (size_t i = 0; i + 1 < rig.io.sent.size(); i += 2) {
      const Bytes whole = payload_of({rig.io.sent.begin() + static_cast<ptrdiff_t>(i),
                                      rig.io.sent.begin() + static_cast<ptrdiff_t>(i + 2)});
      CHECK(whole.size() == 1452);
      CHECK(word_at(whole, 4) == 1452);
    }
  }
}

TEST_CASE("path MTU: what is not known travels whole, and the search is asked for once") {
  PathRig rig;
  Encapsulation encapsulation(rig.with_paths(Mode::kBatch));
  offer(rig.io, 3, PathMtuTable::kAlwaysFits);
  encapsulation.carry();
  CHECK(!rig.woken());
  rig.io.stop = false;
  rig.io.sent.clear();
  for (int i = 0; i < 5; ++i)
    rig.io.tun_reads.push_back({numbered_packet(1, 1472, {.fragment = kDf}), 0});
  Encapsulation again(rig.with_paths(Mode::kBatch));
  again.carry();
  CHECK(rig.io.sent.size() == 5);
  CHECK(rig.woken());
  CHECK(rig.table.wanted() == std::vector<uint32_t>{kNode2});
}

TEST_CASE("path MTU probe: a datagram with DF whose packet any host answers") {
  const PathMtuProbe probe = {.outer_source = kNode1,
                              .outer_destination = kNode2,
                              .port = 8285,
                              .inner_source = kTunAddress,
                              .inner_destination = ip(100, 96, 2, 0),
                              .identifier = 77,
                              .secret = 0x0123456789abcdef,
                              .size = 1472};
  Bytes bytes(kOuterHeaders + probe.size);
  CHECK(write_path_mtu_probe(probe, bytes) == 1500);
  CHECK(word_at(bytes, 2) == 1500);
  CHECK(word_at(bytes, 6) == kDf);
  CHECK(word_at(bytes, 20) == 8285);
  CHECK(word_at(bytes, 22) == 8285);
  Bytes padded = bytes;
  CHECK(word_at(bytes, 26) == transport_checksum(padded));
  Bytes inner(bytes.begin() + 28, bytes.end());
  Ipv4Packet view;
  REQUIRE(Ipv4Packet::parse(inner, view) == PacketFault::kNone);
  CHECK(view.destination() == ip(100, 96, 2, 0));
  CHECK(naive_checksum(view.payload()) == 0);
  CHECK(!read_path_mtu_reply(inner));

  // As the other host answers it.
  Bytes reply = inner;
  put_long(reply, 12, probe.inner_destination);
  put_long(reply, 16, probe.inner_source);
  reply[20] = 0;
  put_word(reply, 22, 0);
  put_word(reply, 22, naive_checksum(std::span(reply).subspan(20)));
  fix_checksum(reply);
  const auto told = read_path_mtu_reply(reply);
  REQUIRE(told);
  CHECK(told->source == probe.inner_destination);
  CHECK(told->secret == probe.secret);
  CHECK(told->size == 1472);
  // A shorter one that claims to be this one.
  Bytes shorter(reply.begin(), reply.begin() + 100);
  put_word(shorter, 2, 100);
  put_word(shorter, 22, 0);
  put_word(shorter, 22, naive_checksum(std::span(shorter).subspan(20)));
  fix_checksum(shorter);
  CHECK(!read_path_mtu_reply(shorter));
}

}  // namespace flannelette::test
