// How fast a packet of 65,516 bytes from a TUN with TSO or USO becomes packets of the MTU: GB/s of
// written bytes and nanoseconds a packet, against a memcpy of the same packet. The subjects take
// turns; the fastest round counts, since other work on the machine only ever slows one.
//
//   make -C bench/micro && bench/micro/build/segment
#include "core/segment.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "core/bytes.h"
#include "core/checksum.h"

using namespace flannelette;

namespace {

constexpr size_t kRounds = 201;
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
double fastest(double fastest, const Run& run) {
  const auto started = std::chrono::steady_clock::now();
  for (size_t i = 0; i < kPasses; ++i) run(i);
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - started;
  return std::min(fastest, took.count() / kPasses);
}

}  // namespace

int main() {
  std::vector<uint8_t> ring(kRoom);
  std::printf("%-20s%14s%14s%14s\n", "", "GB/s", "ns/packet", "memcpy GB/s");
  for (const bool tcp : {true, false}) {
    for (const uint16_t gso_size : {1448, 8948}) {
      std::vector<uint8_t> bytes = super_packet(tcp, 65464);
      const VirtioNetHeader header{.gso_type = tcp ? kGsoTcp4 : kGsoUdpL4, .gso_size = gso_size};
      Ipv4Packet packet;
      SegmentPlan plan;
      if (Ipv4Packet::parse(bytes, packet) != PacketFault::kNone ||
          SegmentPlan::make(header, packet, plan) != SegmentFault::kNone)
        return 1;
      const size_t slots = kRoom / plan.bytes();
      double cut = 1e18;
      double copied = 1e18;
      for (size_t round = 0; round < kRounds; ++round) {
        cut = fastest(cut, [&](size_t i) {
          if (SegmentPlan::make(header, packet, plan) != SegmentFault::kNone) return;
          plan.write(std::span(ring).subspan(i % slots * plan.bytes(), plan.bytes()));
        });
        copied = fastest(copied, [&](size_t i) {
          std::memcpy(&ring[i % slots * plan.bytes()], bytes.data(), bytes.size());
        });
      }
      std::printf("%s, gso_size %-8u%14.2f%14.1f%14.2f\n", tcp ? "TCP" : "UDP", gso_size,
                  static_cast<double>(plan.bytes()) / cut, cut / static_cast<double>(plan.count()),
                  static_cast<double>(bytes.size()) / copied);
    }
  }
}
