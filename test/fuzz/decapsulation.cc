// Fuzz target: any bytes as datagrams at the tunnel's port. What reaches the TUN must be a right
// packet that the source check allows; every datagram is delivered or counted as dropped.
//
// Input: one byte of options, then datagrams: sender (1 byte), repairs (1 byte), length (2 bytes,
// cut to what is left), bytes. The repairs make a random header plausible so that the checks behind
// the first ones are reached.
#include "engine/decapsulation.h"

#include <cstdint>
#include <cstdlib>

#include "../native/scripted_io.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

constexpr std::array<uint32_t, 4> kSenders = {kNode2, kNode3, kStranger, 0};

// `named`: the sender as inner source, 0 for none in particular.
void repair(Bytes& bytes, uint8_t how, uint32_t named) {
  if (bytes.size() < 20) return;
  if (how & 1) bytes[0] = static_cast<uint8_t>(0x40 | (bytes[0] & 15));
  if (how & 2) put_word(bytes, 2, static_cast<uint32_t>(std::min<size_t>(bytes.size(), 65535)));
  if (how & 4) put_long(bytes, 12, how & 8 ? kContainer2 : kContainer3);
  if (named != 0) put_long(bytes, 12, named);
  if (how & 16) put_long(bytes, 16, kContainer1);
  const size_t header = size_t{bytes[0] & 15U} * 4;
  if ((how & 32) && header >= 20 && header <= bytes.size()) fix_checksum(bytes);
}

// Whether `packet` is what one hop makes of the datagram (its checksum is checked by parsing).
bool carried(const Bytes& packet, const Bytes& from) {
  return from.size() >= packet.size() && from[8] == packet[8] + 1 && packet[9] == from[9] &&
         std::equal(packet.begin(), packet.begin() + 8, from.begin()) &&
         std::equal(packet.begin() + 12, packet.end(), from.begin() + 12);
}

// Rings are large; the four loops are made once and carry every input.
struct Loops {
  Rig rig;
  Decapsulation basic{rig.context(Mode::kBasic)};
  Decapsulation batch{rig.context(Mode::kBatch)};
  Decapsulation open_basic{rig.context(Mode::kBasic, false)};
  Decapsulation open_batch{rig.context(Mode::kBatch, false)};
};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static Loops loops;
  Rig& rig = loops.rig;
  rig.io.reset();
  const bool source_check = (data[0] & 2) == 0;
  Decapsulation& decapsulation = data[0] & 1 ? (source_check ? loops.basic : loops.open_basic)
                                             : (source_check ? loops.batch : loops.open_batch);
  const uint64_t received_before = decapsulation.counters().received_packets.get();
  const uint64_t drops_before = all_drops(decapsulation);
  size_t offered = 0;
  std::vector<uint32_t> senders;
  for (size_t at = 1; at + 4 <= size;) {
    const uint32_t sender = kSenders[data[at] % kSenders.size()];
    const bool names_itself = (data[at] & 128) != 0;
    const uint8_t how = data[at + 1];
    const size_t length = std::min<size_t>(data[at + 2] * 256U + data[at + 3], size - at - 4);
    Bytes bytes(data + at + 4, data + at + 4 + length);
    at += 4 + length;
    repair(bytes, how, names_itself ? sender : 0);
    if (how & 64) rig.io.write_results.push_back(how & 128 ? -EIO : -EAGAIN);
    rig.io.datagrams.push_back({std::move(bytes), sender});
    ++offered;
  }
  const auto datagrams = rig.io.datagrams;
  decapsulation.carry();

  require(!rig.io.overrun);
  require(decapsulation.counters().received_packets.get() - received_before == offered);
  require(rig.io.written.size() + all_drops(decapsulation) - drops_before == offered);
  const ForwardingTable table(example_routes());
  size_t next = 0;
  for (Bytes& packet : rig.io.written) {
    Ipv4Packet view;
    require(Ipv4Packet::parse(packet, view) == PacketFault::kNone);
    require(view.bytes().size() == packet.size() && view.ttl() >= 1);
    const uint32_t lease_holder = table.lookup(view.source());
    const bool is_node = view.source() == kNode2 || view.source() == kNode3;
    const uint32_t holder = is_node ? view.source() : lease_holder;
    if (source_check) require(kOwn.contains(view.destination()) && holder != 0);
    // It came from one of the datagrams behind the last one's, sent by the holder of its lease or
    // by the node that is its source.
    while (next < datagrams.size() && !(carried(packet, datagrams[next].bytes) &&
                                        (!source_check || datagrams[next].source == holder)))
      ++next;
    require(next < datagrams.size());
    ++next;
  }
  for (SentDatagram& error : rig.io.raw) {
    Ipv4Packet view;
    require(Ipv4Packet::parse(error.bytes, view) == PacketFault::kNone);
    require(error.bytes.size() <= kIcmpErrorMax && naive_checksum(view.payload()) == 0);
    require(view.source() == kTunAddress && view.destination() == error.destination);
  }
  return 0;
}
