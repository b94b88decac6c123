// What is known about paths, and who may be asked about them.
#include "core/path_mtu_table.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <thread>

namespace flannelette::test {

TEST_CASE("path MTU table: what was put is used, what was erased is not known") {
  PathMtuTable table;
  CHECK(table.use(1) == 0);
  CHECK(table.use(0) == 0);
  CHECK(table.put(1, 1372));
  CHECK(!table.used(1));
  CHECK(table.use(1) == 1372);
  CHECK(table.used(1));
  CHECK(table.put(1, 1472));
  CHECK(!table.used(1));
  CHECK(table.use(1) == 1472);
  table.erase(1);
  CHECK(table.use(1) == 0);
  table.erase(1);
  CHECK(!table.used(1));
}

TEST_CASE("path MTU table: is bounded, and a full bucket keeps what it has") {
  PathMtuTable table;
  size_t taken = 0;
  std::vector<uint32_t> refused;
  for (uint32_t host = 1; host <= 2 * PathMtuTable::kHostsMax; ++host) {
    if (table.put(host, static_cast<uint16_t>(600 + host % 1000))) {
      ++taken;
    } else {
      refused.push_back(host);
    }
  }
  CHECK(taken <= PathMtuTable::kHostsMax);
  CHECK(taken > PathMtuTable::kHostsMax / 2);
  for (uint32_t host = 1; host <= 2 * PathMtuTable::kHostsMax; ++host) {
    const bool kept = !std::binary_search(refused.begin(), refused.end(), host);
    CHECK(table.use(host) == (kept ? 600 + host % 1000 : 0));
  }
  // Room again.
  for (uint32_t host = 1; host <= 2 * PathMtuTable::kHostsMax; ++host) table.erase(host);
  CHECK(table.put(refused.front(), 900));
}

TEST_CASE("path MTU table: a host is wished for once, until the wishes are forgotten") {
  PathMtuTable table;
  CHECK(table.want(7));
  CHECK(!table.want(7));
  CHECK(table.wanted() == std::vector<uint32_t>{7});
  for (uint32_t host = 1; host < 5000; ++host) (void)table.want(host);
  CHECK(table.wanted().size() <= 64);
  table.forget_wanted();
  CHECK(table.wanted().empty());
  CHECK(table.want(7));
}

TEST_CASE("path MTU table: threads read whole entries while one writes") {
  PathMtuTable table;
  std::atomic<bool> stop{false};
  std::atomic<size_t> wrong{0};
  const auto read = [&] {
    while (!stop) {
      for (uint32_t host = 1; host <= 16; ++host) {
        const uint16_t bytes = table.use(host);
        if (bytes != 0 && bytes != 1000 + host && bytes != 2000 + host) ++wrong;
        (void)table.want(host);
      }
    }
  };
  std::thread one(read);
  std::thread two(read);
  for (int i = 0; i < 20000; ++i) {
    for (uint32_t host = 1; host <= 16; ++host) {
      (void)table.put(host, static_cast<uint16_t>((i % 2 == 0 ? 1000 : 2000) + host));
      if (i % 3 == 0) table.erase(host);
    }
    table.forget_wanted();
  }
  stop = true;
  one.join();
  two.join();
  CHECK(wrong == 0);
}

}  // namespace flannelette::test
