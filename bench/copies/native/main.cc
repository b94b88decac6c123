// What each crossing of the kernel's border costs: one thread, pinned, in a lab that stands.
//
//   flannelette-copies ROUNDS BATCHES
//
// A round measures every cell twice ("again" is the noise floor), in a new random order. A
// measurement is BATCHES batches of calls that count; a batch times its sends, makes sure that all
// of them arrived, and times its receives. Its sample is the median of the batches' means. A batch
// does not count when a packet is missing or late, or when the thread lost its CPU meanwhile. One
// JSON line a sample; bench/copies/lines.ts reads them.
#include <poll.h>
#include <sys/resource.h>

#include <cinttypes>
#include <cstring>

#include "../../frame/harness.h"
#include "crossings.h"
#include "references.h"

using namespace flannelette;
using namespace flannelette::bench;

namespace {

constexpr unsigned kCpu = 0;
constexpr int kLateMs = 200;
// How many more batches than wanted are tried, in place of those that do not count.
constexpr size_t kTries = 5;

struct Outcome {
  std::vector<double> sends;  // ns a call, of each batch that counts
  std::vector<double> receives;
  uint64_t sent = 0;  // packets, also of batches that do not count
  uint64_t received = 0;
  uint64_t lossy = 0;  // batches that do not count: packets missing or late
  uint64_t interrupted = 0;
};

long involuntary_switches() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

double median(std::vector<double>& values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void empty(const Pair& pair) {
  while (pair.receive() >= 0) {
  }
}

// What arrives after all; the batch it belongs to does not count.
size_t receive_late(const Pair& pair) {
  size_t received = 0;
  pollfd ready = {pair.receiver_fd, POLLIN, 0};
  while (::poll(&ready, 1, kLateMs) > 0 && pair.receive() == pair.received_bytes) ++received;
  return received;
}

void run_batch(const Pair& pair, Outcome& out) {
  const long switches = involuntary_switches();
  const double started = now_ns();
  size_t sent = 0;
  for (size_t i = 0; i < pair.batch; ++i)
    if (pair.send() == pair.sent_bytes) ++sent;
  const double sending = now_ns() - started;
  const double begun = now_ns();
  size_t received = 0;
  while (received < sent && pair.receive() == pair.received_bytes) ++received;
  const double receiving = now_ns() - begun;
  const bool whole = sent == pair.batch && received == sent;
  if (received < sent) received += receive_late(pair);
  out.sent += sent;
  out.received += received;
  if (!whole) {
    ++out.lossy;
  } else if (involuntary_switches() != switches) {
    ++out.interrupted;
  } else {
    out.sends.push_back(sending / static_cast<double>(pair.batch));
    out.receives.push_back(receiving / static_cast<double>(pair.batch));
  }
}

void print_sample(const char* crossing, const Pair& pair, size_t round, bool again, double ns,
                  uint64_t packets, const Outcome& outcome) {
  std::printf(R"({"crossing":"%s","checksum":"%s","segmented":%s,"bytes":%zu,"round":%zu,)"
              R"("again":%s,"ns":%.2f,"packets":%)" PRIu64 R"(,"batches":%zu,"lossy":%)" PRIu64
              R"(,"interrupted":%)" PRIu64 "}\n",
              crossing, checksum_name(pair.checksum), pair.segmented ? "true" : "false", pair.bytes,
              round, again ? "true" : "false", ns, packets, outcome.sends.size(), outcome.lossy,
              outcome.interrupted);
}

void measure(const Pair& pair, size_t batches, size_t round, bool again) {
  pair.prepare();
  empty(pair);
  // Caches, routes and neighbours are as they stay from here on.
  Outcome warm;
  run_batch(pair, warm);
  Outcome outcome;
  for (size_t i = 0; i < kTries * batches && outcome.sends.size() < batches; ++i)
    run_batch(pair, outcome);
  if (round == 0) return;
  const bool none = outcome.sends.empty();
  print_sample(pair.sender, pair, round, again, none ? -1 : median(outcome.sends), outcome.sent,
               outcome);
  if (pair.receiver != nullptr)
    print_sample(pair.receiver, pair, round, again, none ? -1 : median(outcome.receives),
                 outcome.received, outcome);
}

void measure(const Reference& reference, size_t batches, size_t round, bool again) {
  std::vector<double> means;
  uint64_t interrupted = 0;
  for (size_t i = 0; i < kTries * batches && means.size() < batches; ++i) {
    const long switches = involuntary_switches();
    const double mean = reference.measure();
    if (involuntary_switches() == switches || reference.name == "wake-same-cpu") {
      means.push_back(mean);
    } else {
      ++interrupted;
    }
  }
  if (round == 0) return;
  std::printf(R"({"reference":"%s","bytes":%zu,"round":%zu,"again":%s,"ns":%.3f,)"
              R"("batches":%zu,"interrupted":%)" PRIu64 "}\n",
              reference.name.c_str(), reference.bytes, round, again ? "true" : "false",
              means.empty() ? -1 : median(means), means.size(), interrupted);
}

size_t number(const char* text) {
  const unsigned long value = std::strtoul(text, nullptr, 10);
  return value >= 1 && value <= 100'000 ? value : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const size_t rounds = argc == 3 ? number(argv[1]) : 0;
  const size_t batches = argc == 3 ? number(argv[2]) : 0;
  if (rounds == 0 || batches == 0) {
    std::fprintf(stderr, "usage: %s ROUNDS BATCHES\n", argv[0]);
    return 2;
  }
  Crossings crossings;
  pin(kCpu);
  const std::vector<Reference> references =
      make_references(kCpu, std::thread::hardware_concurrency() > 1 ? kCpu + 1 : kCpu);
  for (const Missing& missing : crossings.missing())
    std::printf(R"({"missing":"%s","reason":"%s"})"
                "\n",
                missing.what.c_str(), std::strerror(missing.number));

  std::mt19937 random(std::random_device{}());
  const std::vector<Pair>& pairs = crossings.pairs();
  std::vector<size_t> order(2 * (pairs.size() + references.size()));
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  // Round 0 warms up and prints nothing.
  for (size_t round = 0; round <= rounds; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t pick : order) {
      const bool again = pick % 2 == 1;
      const size_t at = pick / 2;
      if (at < pairs.size()) {
        measure(pairs[at], batches, round, again);
      } else {
        measure(references[at - pairs.size()], batches, round, again);
      }
    }
    std::fflush(stdout);
  }
}
