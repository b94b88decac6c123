// Fuzz target: any bytes, behind any virtio header, as what the TUN gives, and a socket that
// refuses now and then. What is sent must be a right packet for the host that holds its
// destination; every packet, or each one cut from it, is sent or counted as dropped.
//
// Input: one byte of options, then reads: how (1 byte), repairs (1 byte), result of a send (1
// byte), length (2 bytes, cut to what is left), virtio header (10 bytes), bytes.
#include "engine/encapsulation.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../native/scripted_io.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

constexpr std::array<int, 8> kSendResults = {-EAGAIN,  -EIO,   -EINVAL, -EMSGSIZE,
                                             -ENOBUFS, -EPERM, -EINTR,  1};
constexpr size_t kStep = 5 + sizeof(VirtioNetHeader);
// Rings are large: a loop carries many inputs, until a send failed. What that leaves (features
// switched off, next hops avoided) is not the next input's.
class Loops {
 public:
  static constexpr size_t kHeaders = 2;  // the one whose TUN has virtio headers

  Rig rig;

  Encapsulation& at(size_t which) {
    if (!loops_[which]) loops_[which] = std::make_unique<Encapsulation>(context(which));
    return *loops_[which];
  }
  void forget(size_t which) { loops_[which].reset(); }

 private:
  DirectionContext context(size_t which) {
    constexpr FeatureSet kTun =
        feature_bit(KernelFeature::kTunTso) | feature_bit(KernelFeature::kTunUso);
    if (which < kHeaders) return rig.context(which == 0 ? Mode::kBasic : Mode::kBatch);
    return rig.context(Mode::kOffload, true, nullptr, which == kHeaders ? 0 : kTun);
  }

  std::array<std::unique_ptr<Encapsulation>, 4> loops_;
};

void repair(Bytes& bytes, VirtioNetHeader& header, uint8_t how) {
  if (bytes.size() < 20) return;
  if (how & 1) bytes[0] = static_cast<uint8_t>(0x40 | (bytes[0] & 15));
  if (how & 2) bytes[0] = 0x45;
  if (how & 4) put_word(bytes, 2, static_cast<uint32_t>(std::min<size_t>(bytes.size(), 65535)));
  if (how & 8) put_long(bytes, 16, how & 16 ? kContainer2 : kContainer3);
  if (how & 32) {
    put_word(bytes, 6, 0x4000);
    bytes[9] = how & 64 ? 6 : 17;
    header.gso_type = bytes[9] == 6 ? kGsoTcp4 : kGsoUdpL4;
    header.flags = kNeedsChecksum;
    header.checksum_start = static_cast<uint16_t>((bytes[0] & 15) * 4);
    header.checksum_offset = bytes[9] == 6 ? 16 : 6;
  }
  const size_t length = size_t{bytes[0] & 15U} * 4;
  if ((how & 128) == 0 && length >= 20 && length <= bytes.size()) fix_checksum(bytes);
}

// What one hop makes of a packet, of a TUN without virtio headers.
bool carried(const Bytes& sent, const Bytes& from) {
  return from.size() >= sent.size() && from[8] == sent[8] + 1 && from[9] == sent[9] &&
         std::equal(sent.begin(), sent.begin() + 8, from.begin()) &&
         std::equal(sent.begin() + 12, sent.end(), from.begin() + 12);
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static Loops loops;
  Rig& rig = loops.rig;
  rig.io.reset();
  const size_t which = data[0] & 3U;
  Encapsulation& encapsulation = loops.at(which);
  const bool headers = which == Loops::kHeaders;
  const uint64_t received_before = encapsulation.counters().received_packets.get();
  const uint64_t drops_before = all_drops(encapsulation);
  bool failures = false;
  for (size_t at = 1; at + kStep <= size;) {
    const uint8_t how = data[at];
    const uint8_t result = data[at + 2];
    const size_t length = std::min<size_t>(data[at + 3] * 256U + data[at + 4], size - at - kStep);
    TunRead read;
    std::memcpy(&read.header, data + at + 5, sizeof(read.header));
    read.bytes.assign(data + at + kStep, data + at + kStep + length);
    // A read shorter than the header it begins with.
    if (headers && how >= 250) read.header_bytes = how - 250U;
    repair(read.bytes, read.header, data[at + 1]);
    if ((how & 1) != 0) read.header = {};
    rig.io.tun_reads.push_back(std::move(read));
    if (result >= 240) {
      rig.io.send_results.push_back(kSendResults[result % kSendResults.size()]);
      failures = true;
    }
    at += kStep + length;
  }
  const auto reads = rig.io.tun_reads;
  encapsulation.carry();

  require(!rig.io.overrun);
  const uint64_t received = encapsulation.counters().received_packets.get() - received_before;
  require(received >= reads.size());
  require(headers || received == reads.size());
  require(rig.io.sent.size() + all_drops(encapsulation) - drops_before == received);
  const ForwardingTable table(example_routes());
  size_t next = 0;
  for (SentDatagram& datagram : rig.io.sent) {
    Ipv4Packet view;
    require(Ipv4Packet::parse(datagram.bytes, view) == PacketFault::kNone);
    require(view.bytes().size() == datagram.bytes.size() && view.ttl() >= 1);
    require(datagram.port == 8285 && datagram.destination != 0);
    require(table.lookup(view.destination()) == datagram.destination);
    if (headers) continue;
    while (next < reads.size() && !carried(datagram.bytes, reads[next].bytes)) ++next;
    require(next < reads.size());
    ++next;
  }
  for (SentDatagram& error : rig.io.raw) {
    Ipv4Packet view;
    require(Ipv4Packet::parse(error.bytes, view) == PacketFault::kNone);
    require(error.bytes.size() <= kIcmpErrorMax && naive_checksum(view.payload()) == 0);
  }
  if (failures) loops.forget(which);
  return 0;
}
