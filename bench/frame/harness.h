// What the micro benchmarks share: the clock, pinning, and samples as JSON lines on standard
// output, which bench/micro/samples.ts reads.
//
// A program measures every cell once a round, in a new random order each round, and prints one
// sample for each: {"group", "cell", "unit", "value"}. Medians and intervals are not its work.
#pragma once

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace flannelette::bench {

// Nanoseconds of CLOCK_MONOTONIC.
inline double now_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

// The calling thread on one CPU from here on; ends the program when the machine does not allow it.
inline void pin(unsigned cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (::sched_setaffinity(0, sizeof(set), &set) == 0) return;
  std::fprintf(stderr, "cannot run on CPU %u\n", cpu);
  std::exit(1);
}

inline void sample(const std::string& group, const std::string& cell, const char* unit,
                   double value) {
  std::printf(R"({"group":"%s","cell":"%s","unit":"%s","value":%.6g})"
              "\n",
              group.c_str(), cell.c_str(), unit, value);
  std::fflush(stdout);
}

struct Cell {
  std::string group;
  std::string name;
  const char* unit;
  std::function<double()> measure;
};

// One round of warm-up that is not counted, then `rounds` that print a sample of each cell.
inline void run_rounds(std::vector<Cell>& cells, size_t rounds, std::mt19937& random) {
  for (size_t round = 0; round <= rounds; ++round) {
    std::shuffle(cells.begin(), cells.end(), random);
    for (const Cell& cell : cells) {
      const double value = cell.measure();
      if (round > 0) sample(cell.group, cell.name, cell.unit, value);
    }
  }
}

// The number of rounds: the program's only argument.
inline size_t rounds_of(int argc, char** argv) {
  const long rounds = argc == 2 ? std::strtol(argv[1], nullptr, 10) : 0;
  if (rounds >= 1) return static_cast<size_t>(rounds);
  std::fprintf(stderr, "usage: %s ROUNDS\n", argv[0]);
  std::exit(2);
}

}  // namespace flannelette::bench
