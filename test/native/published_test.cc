// Published values read while another thread replaces them: consistent for readers, freed in time.
// ThreadSanitizer and AddressSanitizer check what the assertions cannot.
#include "core/published.h"

#include <doctest/doctest.h>

#include <chrono>
#include <random>
#include <thread>

#include "core/counters.h"
#include "core/forwarding_table.h"
#include "packets.h"

namespace flannelette::test {

namespace {

// A value with a version in every word, that counts how many of its kind live.
struct Versioned {
  explicit Versioned(uint64_t version, std::atomic<int>& alive) : alive_(alive) {
    words.fill(version);
    ++alive_;
  }
  ~Versioned() {
    words.fill(UINT64_MAX);
    --alive_;
  }
  Versioned(const Versioned&) = delete;
  Versioned& operator=(const Versioned&) = delete;

  std::array<uint64_t, 32> words;

 private:
  std::atomic<int>& alive_;
};

constexpr auto kStress = std::chrono::milliseconds(400);

}  // namespace

TEST_CASE("a reader sees what was published last") {
  std::atomic<int> alive{0};
  {
    Published<Versioned, 2> published(std::make_unique<const Versioned>(1, alive));
    CHECK(published.enter(0).words[0] == 1);
    published.leave(0);
    published.publish(std::make_unique<const Versioned>(2, alive));
    CHECK(published.enter(0).words[0] == 2);
    published.leave(0);
    CHECK(published.retired() == 0);
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
}

TEST_CASE("what a reader holds stays until it leaves or enters again, then goes") {
  std::atomic<int> alive{0};
  Published<Versioned, 2> published(std::make_unique<const Versioned>(1, alive));
  const Versioned& held = published.enter(0);
  for (uint64_t version = 2; version <= 10; ++version)
    published.publish(std::make_unique<const Versioned>(version, alive));
  CHECK(held.words[31] == 1);
  CHECK(published.retired() == 9);
  // Another reader that comes and goes frees nothing the first may hold.
  CHECK(published.enter(1).words[0] == 10);
  published.leave(1);
  CHECK(held.words[0] == 1);

  CHECK(published.enter(0).words[0] == 10);
  published.publish(std::make_unique<const Versioned>(11, alive));
  CHECK(published.retired() == 1);  // the one the reader entered with
  published.leave(0);
  published.publish(std::make_unique<const Versioned>(12, alive));
  CHECK(published.retired() == 0);
  CHECK(alive == 1);
}

TEST_CASE("the destructor frees the current value and the retired ones") {
  std::atomic<int> alive{0};
  {
    Published<Versioned, 1> published(std::make_unique<const Versioned>(1, alive));
    published.enter(0);
    for (uint64_t version = 2; version < 6; ++version)
      published.publish(std::make_unique<const Versioned>(version, alive));
    CHECK(alive == 5);
    published.leave(0);
  }
  CHECK(alive == 0);
}

TEST_CASE("readers under a publisher at full speed see whole values that never go back") {
  std::atomic<int> alive{0};
  std::atomic<bool> stop{false};
  std::atomic<size_t> wrong{0};
  std::atomic<size_t> reads{0};
  uint64_t version = 1;
  {
    Published<Versioned, 3> published(std::make_unique<const Versioned>(version, alive));
    std::vector<std::thread> readers;
    for (size_t slot = 0; slot < 3; ++slot) {
      readers.emplace_back([&, slot] {
        uint64_t last = 0;
        size_t done = 0;
        size_t bad = 0;
        while (!stop) {
          const Versioned& value = published.enter(slot);
          const uint64_t first = value.words[0];
          for (const uint64_t word : value.words) bad += word == first ? 0 : 1;
          bad += first >= last ? 0 : 1;
          last = first;
          // A data-plane thread under load enters again and again and leaves only to wait.
          if (++done % (slot + 1) == 0) published.leave(slot);
        }
        published.leave(slot);
        wrong += bad;
        reads += done;
      });
    }
    const auto end = std::chrono::steady_clock::now() + kStress;
    while (std::chrono::steady_clock::now() < end || reads.load() + version < 100)
      published.publish(std::make_unique<const Versioned>(++version, alive));
    stop = true;
    for (std::thread& reader : readers) reader.join();
    published.publish(std::make_unique<const Versioned>(++version, alive));
    CHECK(published.retired() == 0);
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
  CHECK(wrong == 0);
  CHECK(reads > 0);
  CHECK(version > 10);
}

TEST_CASE("several publishers exclude each other") {
  std::atomic<int> alive{0};
  {
    Published<Versioned, 1> published(std::make_unique<const Versioned>(0, alive));
    std::vector<std::thread> publishers;
    for (uint64_t i = 0; i < 3; ++i)
      publishers.emplace_back([&, i] {
        for (uint64_t n = 0; n < 300; ++n)
          published.publish(std::make_unique<const Versioned>(i * 1000 + n, alive));
      });
    for (int i = 0; i < 300; ++i) {
      published.enter(0);
      published.leave(0);
    }
    for (std::thread& publisher : publishers) publisher.join();
    published.publish(std::make_unique<const Versioned>(1, alive));
    CHECK(published.retired() == 0);
    CHECK(alive == 1);
  }
  CHECK(alive == 0);
}

TEST_CASE("lookups in a forwarding table that changes: the old next hop or the new, no third") {
  std::atomic<bool> stop{false};
  std::atomic<size_t> wrong{0};
  const auto table_of = [](uint32_t hop) {
    // One next hop in all routes, at all three levels of the trie.
    std::vector<Route> routes = {{{ip(100, 0, 0, 0), 8}, hop},
                                 {{ip(100, 96, 2, 0), 24}, hop},
                                 {{ip(100, 96, 3, 128), 25}, hop}};
    for (uint32_t i = 0; i < hop % 40; ++i) routes.push_back({{ip(100, 97, i, 0), 24}, hop});
    return std::make_unique<const ForwardingTable>(routes);
  };
  Published<ForwardingTable, 2> published(table_of(1));
  std::vector<std::thread> readers;
  for (size_t slot = 0; slot < 2; ++slot) {
    readers.emplace_back([&, slot] {
      std::mt19937 random(static_cast<uint32_t>(slot));
      while (!stop) {
        const ForwardingTable& table = published.enter(slot);
        const uint32_t hop = table.lookup(ip(100, 1, 2, 3));
        for (int i = 0; i < 64; ++i) {
          const uint32_t address = ip(100, 0, 0, 0) | (random() & 0xffffff);
          if (table.lookup(address) != hop) ++wrong;
        }
        if (table.lookup(ip(100, 96, 3, 200)) != hop || table.lookup(ip(101, 0, 0, 0)) != 0 ||
            !table.has_next_hop(hop))
          ++wrong;
        published.leave(slot);
      }
    });
  }
  const auto end = std::chrono::steady_clock::now() + kStress;
  for (uint32_t hop = 2; std::chrono::steady_clock::now() < end; ++hop)
    published.publish(table_of(hop));
  stop = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
  published.publish(table_of(1));
  CHECK(published.retired() == 0);
}

TEST_CASE(
    "lookups while routes change one by one: every version is whole, and what they share stays") {
  // Of every version the first routes are taken away; how many, the mark's next hop tells.
  constexpr uint32_t kRoutes = 600;
  const auto subnet = [](uint32_t i) { return Subnet{ip(10, 0, 0, 0) | i << 8, 24}; };
  const Subnet mark{ip(11, 0, 0, 0), 16};
  std::atomic<bool> stop{false};
  std::atomic<size_t> wrong{0};
  std::atomic<size_t> reads{0};
  ForwardingTable routes;
  for (uint32_t i = 0; i < kRoutes; ++i) routes.set({subnet(i), 1 + i});
  routes.set({mark, 5000});
  Published<ForwardingTable, 2> published(std::make_unique<const ForwardingTable>(routes));
  std::vector<std::thread> readers;
  for (size_t slot = 0; slot < 2; ++slot) {
    readers.emplace_back([&, slot] {
      std::mt19937 random(static_cast<uint32_t>(slot));
      while (!stop) {
        const ForwardingTable& table = published.enter(slot);
        const uint32_t changed = table.lookup(mark.network) - 5000;
        for (int n = 0; n < 64; ++n) {
          const uint32_t i = random() % kRoutes;
          const uint32_t wanted = i < changed ? 0 : 1 + i;
          if (table.lookup(subnet(i).network | 9) != wanted) ++wrong;
          if (wanted != 0 && !table.has_next_hop(wanted)) ++wrong;
        }
        ++reads;
        published.leave(slot);
      }
    });
  }
  const auto end = std::chrono::steady_clock::now() + kStress;
  while (std::chrono::steady_clock::now() < end || reads < 10) {
    for (uint32_t i = 0; i < kRoutes; ++i) {
      routes.remove(subnet(i));
      routes.set({mark, 5001 + i});
      published.publish(std::make_unique<const ForwardingTable>(routes));
    }
    for (uint32_t i = kRoutes; i-- > 0;) {
      routes.set({subnet(i), 1 + i});
      routes.set({mark, 5000 + i});
      published.publish(std::make_unique<const ForwardingTable>(routes));
    }
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
  published.publish(std::make_unique<const ForwardingTable>(routes));
  CHECK(published.retired() == 0);
}

}  // namespace flannelette::test
