// How fast a packet of 65,516 bytes from a TUN with TSO or USO becomes packets of the MTU: GB/s of
// written bytes and nanoseconds a packet, against a memcpy of the same packet.
//
//   make -C bench/micro && bench/micro/build/segment ROUNDS
#include "core/segment.h"

#include <cstring>
#include <memory>

#include "../frame/harness.h"
#include "core/bytes.h"
#include "core/checksum.h"

using namespace flannelette;
using namespace flannelette::bench;

namespace {

constexpr size_t kPasses = 50;
// A ring's worth of room, so that packets are written to memory that is not in L1.
constexpr size_t kRoom = size_t{1} << 20;

std::vector<uint8_t> super_packet(bool tcp, size_t payload) {
  std::vector<uint8_t> out(20 + (tcp ? 32 : 8) + payload, 0x5a);
  out[0] = 0x45;
  store_be16(&out[2], static_cast<uint16_t>(out.size()));
  store_be16(&out[6], 0x4000);
  out[9] = tcp ? 6 : 17;
  out[32] = 0x80;  // a TCP header of 32 bytes: timestamps
  store_be16(&out[10], 0);
  store_be16(&out[10], internet_checksum({out.data(), 20}));
  return out;
}

template <typename Run>
double mean_ns(const Run& run) {
  const double started = now_ns();
  for (size_t i = 0; i < kPasses; ++i) run(i);
  return (now_ns() - started) / kPasses;
}

// A large packet and the ring its segments go to.
struct Subject {
  Subject(bool tcp, uint16_t gso_size)
      : bytes(super_packet(tcp, 65464)),
        header{.gso_type = tcp ? kGsoTcp4 : kGsoUdpL4, .gso_size = gso_size} {
    if (Ipv4Packet::parse(bytes, packet) != PacketFault::kNone ||
        SegmentPlan::make(header, packet, plan) != SegmentFault::kNone)
      std::abort();
    slots = kRoom / plan.bytes();
  }

  double cut() {
    return mean_ns([&](size_t i) {
      if (SegmentPlan::make(header, packet, plan) != SegmentFault::kNone) std::abort();
      plan.write(std::span(ring).subspan(i % slots * plan.bytes(), plan.bytes()));
    });
  }
  double copied() {
    return mean_ns([&](size_t i) {
      std::memcpy(&ring[i % slots * plan.bytes()], bytes.data(), bytes.size());
    });
  }

  std::vector<uint8_t> bytes;
  VirtioNetHeader header;
  Ipv4Packet packet;
  SegmentPlan plan;
  size_t slots = 0;
  std::vector<uint8_t> ring = std::vector<uint8_t>(kRoom);
};

}  // namespace

int main(int argc, char** argv) {
  const size_t rounds = rounds_of(argc, argv);
  pin(0);
  std::mt19937 random(1);
  std::vector<std::unique_ptr<Subject>> subjects;
  std::vector<Cell> cells;
  for (const bool tcp : {true, false}) {
    for (const uint16_t gso_size : {1448, 8948}) {
      subjects.push_back(std::make_unique<Subject>(tcp, gso_size));
      Subject& subject = *subjects.back();
      const std::string name =
          std::string(tcp ? "TCP" : "UDP") + ", gso_size " + std::to_string(gso_size);
      cells.push_back({"64 KiB segmented", name, "GB/s", [&subject] {
                         return static_cast<double>(subject.plan.bytes()) / subject.cut();
                       }});
      cells.push_back({"64 KiB segmented", name + ", a packet", "ns", [&subject] {
                         return subject.cut() / static_cast<double>(subject.plan.count());
                       }});
      cells.push_back({"64 KiB segmented", name + ", memcpy instead", "GB/s", [&subject] {
                         return static_cast<double>(subject.bytes.size()) / subject.copied();
                       }});
    }
  }
  run_rounds(cells, rounds, random);
}
