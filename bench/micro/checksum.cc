// How fast bytes are summed and copied: the word-by-word reference, the fast sum, memcpy, a copy
// with the sum in the same pass, and memcpy followed by the sum.
//
//   make -C bench/micro && bench/micro/build/checksum ROUNDS
#include "core/checksum.h"

#include <cstring>

#include "../frame/harness.h"

using namespace flannelette;
using namespace flannelette::bench;

namespace {

constexpr double kBytesPerRound = 4e6;

// What the subjects compute ends here, so that no compiler leaves it out.
volatile uint16_t sink;

struct Subject {
  const char* name;
  uint16_t (*run)(std::span<const uint8_t> from, uint8_t* to);
};

uint16_t copy(std::span<const uint8_t> from, uint8_t* to) {
  std::memcpy(to, from.data(), from.size());
  return to[from.size() / 2];
}

constexpr Subject kSubjects[] = {
    {"reference", [](auto bytes, uint8_t*) { return ones_complement_sum_reference(bytes); }},
    {"sum", [](auto bytes, uint8_t*) { return ones_complement_sum(bytes); }},
    {"memcpy", copy},
    {"copy_and_sum", [](auto bytes, uint8_t* out) { return copy_and_sum(bytes, out); }},
    {"memcpy and sum",
     [](auto bytes, uint8_t* out) {
       std::memcpy(out, bytes.data(), bytes.size());
       return ones_complement_sum(bytes);
     }},
};

double speed(const Subject& subject, std::span<const uint8_t> from, uint8_t* to) {
  const auto passes = static_cast<size_t>(kBytesPerRound / static_cast<double>(from.size()));
  const double started = now_ns();
  for (size_t i = 0; i < passes; ++i) sink = subject.run(from, to);
  return static_cast<double>(passes * from.size()) / (now_ns() - started);
}

}  // namespace

int main(int argc, char** argv) {
  const size_t rounds = rounds_of(argc, argv);
  pin(0);
  std::mt19937 random(1);
  std::vector<uint8_t> from(65535 + 2);
  std::vector<uint8_t> to(from.size());
  for (uint8_t& byte : from) byte = static_cast<uint8_t>(random());
  std::vector<Cell> cells;
  for (const size_t size : {20, 64, 576, 1448, 8948, 65535})
    for (const Subject& subject : kSubjects)
      // Two bytes off, as a payload behind headers is: nothing relies on alignment.
      cells.push_back(
          {"bytes summed and copied", std::to_string(size) + " bytes, " + subject.name, "GB/s",
           [&, size] { return speed(subject, std::span(from).subspan(2, size), to.data()); }});
  run_rounds(cells, rounds, random);
}
