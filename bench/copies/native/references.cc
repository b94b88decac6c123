#include "references.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <thread>

#include "../../frame/harness.h"
#include "endpoint.h"

namespace flannelette::bench {

namespace {

constexpr size_t kSizes[] = {64, 256, 512, 1024, 1472, 4096, 8192, 16384, 32768, 65000};
constexpr size_t kCalls = 1000;
constexpr size_t kCopies = 64;
constexpr size_t kWakes = 100;
// Much more than a last-level cache, so that what is copied is in none.
constexpr size_t kColdBytes = size_t{128} << 20;
constexpr size_t kSlot = size_t{64} << 10;

volatile uint8_t sink;

double null_system_call() {
  const double started = now_ns();
  for (size_t i = 0; i < kCalls; ++i) ::syscall(SYS_getppid);
  return (now_ns() - started) / kCalls;
}

// From one half of a large memory to the other, each time elsewhere, or always the same bytes.
class Copier {
 public:
  Copier() : memory_(kColdBytes, 1), order_(kColdBytes / 2 / kSlot) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::shuffle(order_.begin(), order_.end(), std::mt19937(1));
  }

  double hot(size_t bytes) {
    return mean(bytes, [this](size_t) { return order_[0]; });
  }
  double cold(size_t bytes) {
    return mean(bytes, [this](size_t) { return order_[next_++ % order_.size()]; });
  }

 private:
  template <typename Slot>
  double mean(size_t bytes, const Slot& slot) {
    const double started = now_ns();
    for (size_t i = 0; i < kCopies; ++i) {
      const uint8_t* from = &memory_[slot(i) * kSlot];
      uint8_t* to = &memory_[slot(i) * kSlot + kColdBytes / 2];
      std::memcpy(to, from, bytes);
      sink = to[bytes / 2];
    }
    return (now_ns() - started) / kCopies;
  }

  std::vector<uint8_t> memory_;
  std::vector<size_t> order_;
  size_t next_ = 0;
};

// Half a round trip between two threads, each woken by the other's write to an eventfd.
double wake_up(unsigned cpu) {
  const OwnedFd there(::eventfd(0, EFD_CLOEXEC));
  const OwnedFd back(::eventfd(0, EFD_CLOEXEC));
  if (!there.valid() || !back.valid()) fail("eventfd");
  constexpr size_t kWarm = 10;
  std::thread other([&] {
    pin(cpu);
    eventfd_t value = 0;
    for (size_t i = 0; i < kWakes + kWarm; ++i)
      if (::eventfd_read(there.get(), &value) < 0 || ::eventfd_write(back.get(), 1) < 0) return;
  });
  eventfd_t value = 0;
  double started = 0;
  for (size_t i = 0; i < kWakes + kWarm; ++i) {
    if (i == kWarm) started = now_ns();
    if (::eventfd_write(there.get(), 1) < 0 || ::eventfd_read(back.get(), &value) < 0)
      fail("eventfd");
  }
  const double took = now_ns() - started;
  other.join();
  return took / kWakes / 2;
}

}  // namespace

std::vector<Reference> make_references(unsigned cpu, unsigned other) {
  const auto copier = std::make_shared<Copier>();
  std::vector<Reference> out;
  out.push_back({"null-syscall", 0, kCalls, null_system_call});
  out.push_back({"wake-same-cpu", 0, kWakes, [cpu] { return wake_up(cpu); }});
  if (other != cpu)
    out.push_back({"wake-other-cpu", 0, kWakes, [other] { return wake_up(other); }});
  for (const size_t bytes : kSizes) {
    out.push_back({"memcpy-hot", bytes, kCopies, [copier, bytes] { return copier->hot(bytes); }});
    out.push_back({"memcpy-cold", bytes, kCopies, [copier, bytes] { return copier->cold(bytes); }});
  }
  return out;
}

}  // namespace flannelette::bench
