// Fuzz target: the same packets by every path. What `basic` (one read, one send, no virtio header)
// accepts, drops and emits, `batch` and `offload` accept, drop and emit too, byte for byte: large
// reads of the TUN against the packets Linux would have cut them into, trains from the socket
// against their datagrams, and large writes to the TUN as Linux cuts them.
//
// Input: one byte of options, then packets: how (1 byte), repairs (1 byte), length (2 bytes, cut to
// what is left), bytes. A packet may go on where one before ended (its successor in its flow): the
// bytes are then changes (offset, value).
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>

#include "../native/random_offload.h"
#include "../native/scripted_io.h"
#include "../native/tun_write.h"
#include "core/segment.h"
#include "engine/decapsulation.h"
#include "engine/encapsulation.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

constexpr std::array<uint32_t, 4> kSenders = {kNode2, kNode3, kStranger, kNode2};
// The longest that a packet of few bytes is made: several segments.
constexpr size_t kLongest = 6000;

size_t ip_header(const Bytes& bytes) { return size_t{bytes[0] & 15U} * 4; }

// Bytes of IP and transport header; 0 when they do not lie within a whole TCP or UDP packet.
size_t headers_of(const Bytes& bytes) {
  if (bytes.size() < 20 || bytes[0] >> 4 != 4 || ip_header(bytes) < 20) return 0;
  if ((word_at(bytes, 6) & 0x3fff) != 0) return 0;
  const size_t ip = ip_header(bytes);
  if (bytes[9] == 17) return ip + 8 <= bytes.size() ? ip + 8 : 0;
  if (bytes[9] != 6 || ip + 20 > bytes.size()) return 0;
  const size_t headers = ip + size_t{bytes[ip + 12]} / 16 * 4;
  return headers >= ip + 20 && headers <= bytes.size() ? headers : 0;
}

void repair(Bytes& bytes, uint8_t how, bool outgoing) {
  if (how & 1) bytes.resize(std::max<size_t>(bytes.size(), 40));
  if (bytes.size() < 20) return;
  if (how & 1) bytes[0] = static_cast<uint8_t>(how & 64 && bytes.size() >= 44 ? 0x46 : 0x45);
  if (how & 2) bytes[9] = how & 4 ? 6 : 17;
  if (how & 8) put_word(bytes, 6, 0x4000);
  if (how & 16) {
    put_long(bytes, 12, outgoing ? kContainer1 : how & 32 ? kContainer3 : kContainer2);
    put_long(bytes, 16, !outgoing ? kContainer1 : how & 32 ? kContainer3 : kContainer2);
  }
  const size_t ip = ip_header(bytes);
  if ((how & 1) && bytes[9] == 6 && bytes.size() >= ip + 20) {
    bytes[ip + 12] = 0x50;
    if (how & 32) bytes[ip + 13] = 0x10;
  }
  if (how & 128) return;
  put_word(bytes, 2, static_cast<uint32_t>(bytes.size()));
  if (headers_of(bytes) != 0) {
    if (bytes[9] == 17) put_word(bytes, ip + 4, static_cast<uint32_t>(bytes.size() - ip));
    fix_transport_checksum(bytes);
  }
  if (ip >= 20 && ip <= bytes.size()) fix_checksum(bytes);
}

// The packet that would follow in its flow, with changes.
Bytes successor(Bytes bytes, std::span<const uint8_t> changes) {
  if (bytes.size() < 20) return bytes;
  put_word(bytes, 4, word_at(bytes, 4) + 1U);
  const size_t headers = headers_of(bytes);
  if (headers != 0 && bytes[9] == 6) {
    const size_t at = ip_header(bytes) + 4;
    put_long(bytes, at, static_cast<uint32_t>(long_at(bytes, at) + (bytes.size() - headers)));
  }
  if (headers != 0 && changes.size() % 2 == 1) {
    const size_t less = std::min<size_t>(changes[0], bytes.size() - headers);
    bytes.resize(bytes.size() - less);
    put_word(bytes, 2, static_cast<uint32_t>(bytes.size()));
    if (bytes[9] == 17)
      put_word(bytes, headers - 4, static_cast<uint32_t>(bytes.size() - headers + 8));
    changes = changes.subspan(1);
  }
  if (headers != 0) fix_transport_checksum(bytes);
  for (size_t i = 0; i + 1 < changes.size(); i += 2)
    bytes[changes[i] % bytes.size()] ^= changes[i + 1];
  const size_t ip = ip_header(bytes);
  if (ip >= 20 && ip <= bytes.size()) fix_checksum(bytes);
  return bytes;
}

struct Input {
  uint8_t how;
  Bytes bytes;
};

std::vector<Input> read_packets(std::span<const uint8_t> data, bool outgoing) {
  std::vector<Input> out;
  for (size_t at = 0; at + 4 <= data.size();) {
    const uint8_t how = data[at];
    const uint8_t repairs = data[at + 1];
    const size_t length =
        std::min<size_t>(data[at + 2] * 256U + data[at + 3], data.size() - at - 4);
    const std::span<const uint8_t> bytes = data.subspan(at + 4, length);
    at += 4 + length;
    if ((how & 0xc0) == 0x80 && !out.empty()) {
      const size_t back = std::min<size_t>(repairs & 7U, out.size() - 1);
      const Input& before = out[out.size() - 1 - back];
      out.push_back({before.how, successor(before.bytes, bytes)});
      continue;
    }
    Bytes packet(bytes.begin(), bytes.end());
    // Few bytes of input make a long packet.
    const size_t longer = (how & 0x30) == 0x30 ? std::min(kLongest, packet.size() * 24) : 0;
    for (size_t i = 0; packet.size() < longer; ++i) packet.push_back(packet[i]);
    repair(packet, repairs, outgoing);
    out.push_back({how, std::move(packet)});
  }
  return out;
}

// What a direction counted between two moments.
struct Counts {
  uint64_t received = 0;
  std::array<uint64_t, kDropReasons> drops{};

  static Counts of(const Direction& direction) {
    Counts out;
    out.received = direction.counters().received_packets.get();
    for (size_t i = 0; i < kDropReasons; ++i) out.drops[i] = direction.counters().drops[i].get();
    return out;
  }
  Counts since(const Counts& before) const {
    Counts out = *this;
    out.received -= before.received;
    for (size_t i = 0; i < kDropReasons; ++i) out.drops[i] -= before.drops[i];
    return out;
  }
  bool operator==(const Counts&) const = default;
};

template <typename Loop>
Counts carry(Loop& loop, ScriptedIo& io) {
  const Counts before = Counts::of(loop);
  loop.carry();
  require(!io.overrun);
  return Counts::of(loop).since(before);
}

// The TUN's packet with work left undone, as Linux hands it over: of `how`, its checksum, or that
// and its segmentation.
TunWrite left_undone(const Bytes& bytes, uint8_t how) {
  TunWrite out{{}, bytes};
  const size_t headers = headers_of(bytes);
  Ipv4Packet view;
  Bytes copy = bytes;
  if (headers == 0 || Ipv4Packet::parse(copy, view) != PacketFault::kNone) return out;
  if (view.bytes().size() != bytes.size() || (how & 1) == 0) return out;
  const bool udp = bytes[9] == 17;
  const size_t ip = ip_header(bytes);
  if (udp && word_at(bytes, ip + 4) != bytes.size() - ip) return out;
  out.offload.flags = kNeedsChecksum;
  out.offload.checksum_start = static_cast<uint16_t>(ip);
  out.offload.checksum_offset = udp ? 6 : 16;
  put_word(out.packet, ip + out.offload.checksum_offset, pseudo_sum(out.packet));
  const size_t size = 8 + size_t{how & 0x0eU} * 60;
  if ((how & 0x30) == 0 || bytes.size() - headers <= size) return out;
  out.offload.gso_type = udp ? kGsoUdpL4 : kGsoTcp4;
  out.offload.gso_size = static_cast<uint16_t>(size);
  out.offload.header_length = static_cast<uint16_t>(headers);
  return out;
}

// Rings are large; the loops are made once and carry every input.
struct Loops {
  Rig rig;
  Encapsulation out_basic{rig.context(Mode::kBasic)};
  Encapsulation out_batch{rig.context(Mode::kBatch)};
  Encapsulation out_offload{rig.context(Mode::kOffload)};
  std::array<Decapsulation, 2> in_basic{Decapsulation{rig.context(Mode::kBasic)},
                                        Decapsulation{rig.context(Mode::kBasic, false)}};
  std::array<Decapsulation, 2> in_batch{Decapsulation{rig.context(Mode::kBatch)},
                                        Decapsulation{rig.context(Mode::kBatch, false)}};
  std::array<Decapsulation, 2> in_offload{Decapsulation{rig.context(Mode::kOffload)},
                                          Decapsulation{rig.context(Mode::kOffload, false)}};
};

bool same_sent(const std::vector<SentDatagram>& a, const std::vector<SentDatagram>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.bytes == y.bytes && x.destination == y.destination && x.port == y.port;
  });
}

void out_by_every_path(Loops& loops, const std::vector<Input>& inputs) {
  ScriptedIo& io = loops.rig.io;
  const auto through = [&](Encapsulation& loop, const std::vector<TunWrite>& reads) {
    io.reset();
    for (const TunWrite& read : reads)
      io.tun_reads.push_back({.bytes = read.packet, .header = read.offload});
    const Counts counts = carry(loop, io);
    return std::pair(counts, io.sent);
  };
  std::vector<TunWrite> large;
  std::vector<TunWrite> single;
  for (const Input& input : inputs) {
    large.push_back(left_undone(input.bytes, input.how));
    for (Bytes& packet : cut(large.back())) single.push_back({{}, std::move(packet)});
  }
  const auto basic = through(loops.out_basic, single);
  const auto batch = through(loops.out_batch, single);
  const auto offload = through(loops.out_offload, large);
  require(batch.first == basic.first && offload.first == basic.first);
  require(same_sent(batch.second, basic.second) && same_sent(offload.second, basic.second));
}

// Consecutive datagrams of one sender and length, the last perhaps shorter, as UDP_GRO hands them.
std::deque<Datagram> in_trains(const std::deque<Datagram>& datagrams) {
  std::deque<Datagram> out;
  bool open = false;
  for (const Datagram& datagram : datagrams) {
    const size_t length = datagram.bytes.size();
    if (open) {
      Datagram& train = out.back();
      const size_t each =
          train.segment == 0 ? train.bytes.size() : static_cast<size_t>(train.segment);
      if (train.source == datagram.source && length != 0 && length <= each &&
          train.bytes.size() + length <= 65507) {
        train.segment = static_cast<int>(each);
        train.bytes.insert(train.bytes.end(), datagram.bytes.begin(), datagram.bytes.end());
        open = length == each;
        continue;
      }
    }
    out.push_back(datagram);
    open = length != 0;
  }
  return out;
}

// What shares it is in order; between flows order is free.
Bytes flow_of(const Bytes& packet) {
  Bytes key(packet.begin() + 12, packet.begin() + 20);
  key.push_back(packet[9]);
  const size_t ip = ip_header(packet);
  const bool ports = (packet[9] == 6 || packet[9] == 17) && (word_at(packet, 6) & 0x3fff) == 0;
  if (ports && packet.size() >= ip + 4)
    key.insert(key.end(), packet.begin() + static_cast<ptrdiff_t>(ip),
               packet.begin() + static_cast<ptrdiff_t>(ip + 4));
  return key;
}

using Flows = std::map<Bytes, std::vector<Bytes>>;

Flows by_flow(const std::vector<Bytes>& packets) {
  Flows out;
  for (const Bytes& packet : packets) out[flow_of(packet)].push_back(packet);
  return out;
}

void require_same_flows(const Flows& basic, const Flows& offload) {
  require(basic.size() == offload.size());
  for (const auto& [key, packets] : basic) {
    const auto found = offload.find(key);
    require(found != offload.end() && found->second.size() == packets.size());
    for (size_t i = 0; i < packets.size(); ++i)
      // The ID of a packet with DF means nothing.
      require(same_packet(found->second[i], packets[i], (packets[i][6] & 0x40) != 0));
  }
}

void in_by_every_path(Loops& loops, const std::vector<Input>& inputs, bool source_check) {
  ScriptedIo& io = loops.rig.io;
  const size_t which = source_check ? 0 : 1;
  std::deque<Datagram> datagrams;
  for (const Input& input : inputs) {
    Datagram datagram{.bytes = input.bytes, .source = kSenders[input.how & 3U]};
    // As a sender in the kernel leaves it (core/unfinished.h).
    if ((input.how & 0x0c) == 0x0c) datagram.bytes = left_undone(input.bytes, 1).packet;
    datagrams.push_back(std::move(datagram));
  }
  const auto through = [&](Decapsulation& loop, const std::deque<Datagram>& offered) {
    io.reset();
    io.datagrams = offered;
    return carry(loop, io);
  };
  const Counts basic = through(loops.in_basic[which], datagrams);
  const std::vector<Bytes> expected = io.written;
  const Counts batch = through(loops.in_batch[which], datagrams);
  require(batch == basic && io.written == expected);
  const Counts offload = through(loops.in_offload[which], in_trains(datagrams));
  require(offload == basic);
  std::vector<Bytes> found;
  for (const TunWrite& write : io.written_large)
    for (Bytes& packet : cut(write)) found.push_back(std::move(packet));
  require_same_flows(by_flow(expected), by_flow(found));
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static Loops loops;
  const bool outgoing = (data[0] & 1) != 0;
  const std::vector<Input> inputs = read_packets({data + 1, size - 1}, outgoing);
  if (outgoing) {
    out_by_every_path(loops, inputs);
  } else {
    in_by_every_path(loops, inputs, (data[0] & 2) == 0);
  }
  return 0;
}
