// How fast bytes are summed and copied: GB/s of the word-by-word reference, the fast sum, memcpy, a
// copy with the sum in the same pass, and memcpy followed by the sum. The subjects take turns, so
// that a slow moment of the machine hits all; the fastest of many short rounds counts, since other
// work on the machine only ever slows one.
//
//   make -C bench/micro && bench/micro/build/checksum
#include "core/checksum.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

using namespace flannelette;

namespace {

constexpr size_t kRounds = 101;
constexpr double kBytesPerRound = 4e6;

// What the subjects compute ends here, so that no compiler leaves it out.
volatile uint16_t sink;

struct Subject {
  const char* name;
  uint16_t (*run)(std::span<const uint8_t> from, uint8_t* to);
  double speed = 0;  // GB/s, of the fastest round
};

uint16_t copy(std::span<const uint8_t> from, uint8_t* to) {
  std::memcpy(to, from.data(), from.size());
  return to[from.size() / 2];
}

void measure(Subject& subject, std::span<const uint8_t> from, uint8_t* to) {
  const auto passes = static_cast<size_t>(kBytesPerRound / static_cast<double>(from.size()));
  const auto started = std::chrono::steady_clock::now();
  for (size_t i = 0; i < passes; ++i) sink = subject.run(from, to);
  const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - started;
  const double speed = static_cast<double>(passes * from.size()) / took.count();
  subject.speed = std::max(subject.speed, speed);
}

}  // namespace

int main() {
  std::mt19937 random(1);
  std::vector<uint8_t> from(65535 + 2);
  std::vector<uint8_t> to(from.size());
  for (uint8_t& byte : from) byte = static_cast<uint8_t>(random());

  std::printf("GB/s, fastest of %zu interleaved rounds\n%-14s", kRounds, "bytes");
  bool titled = false;
  for (const size_t size : {20, 64, 576, 1448, 8948, 65535}) {
    Subject subjects[] = {
        {"reference", [](auto bytes, uint8_t*) { return ones_complement_sum_reference(bytes); }},
        {"sum", [](auto bytes, uint8_t*) { return ones_complement_sum(bytes); }},
        {"memcpy", copy},
        {"copy_and_sum", [](auto bytes, uint8_t* out) { return copy_and_sum(bytes, out); }},
        {"memcpy, sum",
         [](auto bytes, uint8_t* out) {
           std::memcpy(out, bytes.data(), bytes.size());
           return ones_complement_sum(bytes);
         }},
    };
    for (size_t round = 0; round < kRounds; ++round)
      // Two bytes off, as a payload behind headers is: nothing relies on alignment.
      for (Subject& subject : subjects)
        measure(subject, std::span(from).subspan(2, size), to.data());
    if (!titled)
      for (const Subject& subject : subjects) std::printf("%14s", subject.name);
    titled = true;
    std::printf("\n%-14zu", size);
    for (const Subject& subject : subjects) std::printf("%14.2f", subject.speed);
  }
  std::printf("\n");
}
