// The compiled table against a naive one, on random input and at the boundaries.
#include "core/forwarding_table.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "packets.h"

namespace flannelette::test {

namespace {

bool same(const Subnet& a, const Subnet& b) {
  return a.network == b.network && a.prefix == b.prefix;
}

// Compares at both ends of every route, one beyond each, and at random addresses.
size_t differences(const ForwardingTable& table, const NaiveTable& naive, std::mt19937& random) {
  size_t wrong = 0;
  const auto compare = [&](uint32_t address) {
    if (table.lookup(address) != naive.lookup(address)) ++wrong;
  };
  for (const Route& route : naive.routes()) {
    compare(route.subnet.network);
    compare(route.subnet.network - 1);
    compare(route.subnet.broadcast());
    compare(route.subnet.broadcast() + 1);
    compare(route.subnet.network | (random() & ~prefix_mask(route.subnet.prefix)));
  }
  for (int i = 0; i < 200; ++i) compare(random());
  compare(0);
  compare(0xffffffffU);
  return wrong;
}

}  // namespace

TEST_CASE("an empty table has no route to anywhere") {
  const ForwardingTable table;
  CHECK(table.lookup(0) == 0);
  CHECK(table.lookup(kContainer2) == 0);
  CHECK(table.lookup(0xffffffffU) == 0);
  CHECK(table.route_count() == 0);
  CHECK(!table.has_next_hop(0));
  CHECK(!table.has_next_hop(kNode2));
}

TEST_CASE("the example network") {
  const auto routes = example_routes();
  const ForwardingTable table(routes);
  CHECK(table.lookup(kContainer2) == kNode2);
  CHECK(table.lookup(kContainer3) == kNode3);
  CHECK(table.lookup(kContainer1) == 0);
  CHECK(table.lookup(ip(100, 96, 1, 255)) == 0);
  CHECK(table.lookup(ip(100, 96, 2, 0)) == kNode2);
  CHECK(table.lookup(ip(100, 96, 2, 255)) == kNode2);
  CHECK(table.lookup(ip(100, 96, 4, 0)) == 0);
  CHECK(table.route_count() == 2);
  CHECK(table.has_next_hop(kNode2));
  CHECK(!table.has_next_hop(kStranger));
}

TEST_CASE("every prefix length alone, at the first, the last and a middle subnet") {
  for (uint32_t prefix = 0; prefix <= 32; ++prefix) {
    for (const uint32_t address : {0U, 0xffffffffU, ip(100, 96, 129, 130)}) {
      const Subnet subnet{address & prefix_mask(prefix), prefix};
      const std::vector<Route> routes = {{subnet, kNode2}};
      const ForwardingTable table(routes);
      CAPTURE(prefix);
      CHECK(table.lookup(subnet.network) == kNode2);
      CHECK(table.lookup(subnet.broadcast()) == kNode2);
      if (prefix == 0) continue;
      CHECK(table.lookup(subnet.network - 1) == 0);
      CHECK(table.lookup(subnet.broadcast() + 1) == 0);
    }
  }
}

TEST_CASE("nested prefixes of all 33 lengths: the longest wins whatever the order") {
  std::mt19937 random(5);
  std::vector<Route> routes;
  for (uint32_t prefix = 0; prefix <= 32; ++prefix)
    routes.push_back({{kContainer2 & prefix_mask(prefix), prefix}, 1000 + prefix});
  for (int i = 0; i < 20; ++i) {
    std::shuffle(routes.begin(), routes.end(), random);
    const ForwardingTable table(routes);
    CHECK(table.lookup(kContainer2) == 1032);
    for (uint32_t prefix = 0; prefix < 32; ++prefix)  // differs first in the bit after the prefix
      CHECK(table.lookup(kContainer2 ^ (0x80000000U >> prefix)) == 1000 + prefix);
  }
}

TEST_CASE("of two routes to one subnet the later wins") {
  for (const uint32_t prefix : {0U, 8U, 16U, 17U, 24U, 25U, 32U}) {
    const Subnet subnet{kContainer2 & prefix_mask(prefix), prefix};
    CHECK(ForwardingTable(std::vector<Route>{{subnet, 1}, {subnet, 2}}).lookup(kContainer2) == 2);
    CHECK(ForwardingTable(std::vector<Route>{{subnet, 2}, {subnet, 1}}).lookup(kContainer2) == 1);
  }
}

TEST_CASE("random routes of mixed lengths, with duplicates and overlaps, against the naive table") {
  std::mt19937 random(6);
  for (int round = 0; round < 60; ++round) {
    std::vector<Route> routes;
    const size_t count = random() % 120;
    // A narrow range of addresses makes overlaps common.
    const uint32_t spread = prefix_mask(static_cast<uint32_t>(random() % 28));
    const auto base = static_cast<uint32_t>(random());
    const auto hop = [&] { return static_cast<uint32_t>(1 + random() % 20); };
    for (size_t i = 0; i < count; ++i) {
      if (!routes.empty() && random() % 8 == 0) {
        routes.push_back({routes[random() % routes.size()].subnet, hop()});
        continue;
      }
      const uint32_t prefix = random() % 33;
      const uint32_t address = (base & spread) | (random() & ~spread);
      routes.push_back({{address & prefix_mask(prefix), prefix}, hop()});
    }
    const ForwardingTable table(routes);
    std::vector<Route> kept;
    for (const Route& route : routes) {
      std::erase_if(kept, [&](const Route& other) { return same(other.subnet, route.subnet); });
      kept.push_back(route);
    }
    const NaiveTable naive(kept);
    CAPTURE(round);
    CHECK(differences(table, naive, random) == 0);
    CHECK(table.route_count() == kept.size());
    for (uint32_t hop = 0; hop <= 22; ++hop)
      CHECK(table.has_next_hop(hop) == naive.has_next_hop(hop));
  }
}

TEST_CASE("random changes against the naive table; copies made on the way stay as they were") {
  std::mt19937 random(8);
  for (int round = 0; round < 20; ++round) {
    ForwardingTable table;
    std::vector<Route> routes;
    std::vector<std::pair<ForwardingTable, NaiveTable>> copies;
    const uint32_t spread = prefix_mask(static_cast<uint32_t>(random() % 28));
    const auto base = static_cast<uint32_t>(random());
    CAPTURE(round);
    for (int step = 0; step < 200; ++step) {
      const uint32_t prefix = random() % 33;
      const uint32_t address = (base & spread) | (random() & ~spread);
      Subnet subnet{address & prefix_mask(prefix), prefix};
      if (!routes.empty() && random() % 2 == 0) subnet = routes[random() % routes.size()].subnet;
      const bool there =
          std::erase_if(routes, [&](const Route& route) { return same(route.subnet, subnet); }) > 0;
      if (random() % 2 == 0) {
        CHECK(table.remove(subnet) == there);
      } else {
        routes.push_back({subnet, static_cast<uint32_t>(1 + random() % 20)});
        table.set(routes.back());
      }
      if (step % 20 == 0) copies.emplace_back(table, NaiveTable(routes));
    }
    copies.emplace_back(table, NaiveTable(routes));
    for (const auto& [copy, naive] : copies) {
      CHECK(differences(copy, naive, random) == 0);
      CHECK(copy.route_count() == naive.routes().size());
      for (uint32_t hop = 0; hop <= 22; ++hop)
        CHECK(copy.has_next_hop(hop) == naive.has_next_hop(hop));
    }
    while (!routes.empty()) {
      CHECK(table.remove(routes.back().subnet));
      routes.pop_back();
    }
    CHECK(differences(table, NaiveTable({}), random) == 0);
    // Nothing of the routes that were there is left but empty buckets of next hops.
    CHECK(table.memory_bytes() <= ForwardingTable().memory_bytes() + 256 * 256);
  }
}

TEST_CASE("a change of one route in 65,536 leaves the copies alone and shares their nodes") {
  std::vector<Route> routes;
  for (uint32_t i = 0; i < 65536; ++i) routes.push_back({{ip(10, 0, 0, 0) | i << 8, 24}, 1 + i});
  const ForwardingTable before(routes);
  ForwardingTable table = before;
  table.set({{ip(10, 7, 7, 0), 24}, kNode2});
  CHECK(table.remove({ip(10, 8, 8, 0), 24}));
  CHECK(!table.remove({ip(10, 8, 8, 0), 24}));
  CHECK(!table.remove({ip(10, 8, 0, 0), 16}));
  CHECK(before.lookup(ip(10, 7, 7, 1)) == 1 + 0x707);
  CHECK(before.lookup(ip(10, 8, 8, 1)) == 1 + 0x808);
  CHECK(table.lookup(ip(10, 7, 7, 1)) == kNode2);
  CHECK(table.lookup(ip(10, 8, 8, 1)) == 0);
  CHECK(table.has_next_hop(kNode2));
  CHECK(!before.has_next_hop(kNode2));
  CHECK(!table.has_next_hop(1 + 0x707));
  CHECK(before.has_next_hop(1 + 0x707));
  CHECK(table.route_count() == 65535);
}

TEST_CASE("65,536 subnets of /24 in 10.0.0.0/8") {
  std::vector<Route> routes;
  for (uint32_t i = 0; i < 65536; ++i)
    routes.push_back({{ip(10, 0, 0, 0) | i << 8, 24}, ip(172, 16, 0, 0) + i});
  std::mt19937 random(7);
  std::shuffle(routes.begin(), routes.end(), random);
  const ForwardingTable table(routes);
  size_t wrong = 0;
  for (uint32_t i = 0; i < 65536; ++i) {
    const uint32_t subnet = ip(10, 0, 0, 0) | i << 8;
    for (const uint32_t host : {0U, 1U, 254U, 255U})
      if (table.lookup(subnet | host) != ip(172, 16, 0, 0) + i) ++wrong;
    if (!table.has_next_hop(ip(172, 16, 0, 0) + i)) ++wrong;
  }
  CHECK(wrong == 0);
  CHECK(table.lookup(ip(9, 255, 255, 255)) == 0);
  CHECK(table.lookup(ip(11, 0, 0, 0)) == 0);
  CHECK(!table.has_next_hop(ip(172, 15, 255, 255)));
  CHECK(!table.has_next_hop(ip(172, 17, 0, 0)));
  CHECK(table.route_count() == 65536);
  CHECK(table.memory_bytes() < 2'500'000);
}

TEST_CASE("next hops at the ends of the address range are found") {
  const ForwardingTable table(
      std::vector<Route>{{{ip(10, 0, 0, 0), 8}, 1}, {{ip(11, 0, 0, 0), 8}, 0xffffffffU}});
  CHECK(table.lookup(ip(10, 1, 1, 1)) == 1);
  CHECK(table.lookup(ip(11, 1, 1, 1)) == 0xffffffffU);
  CHECK(table.has_next_hop(0xffffffffU));
  CHECK(!table.has_next_hop(0));
}

}  // namespace flannelette::test
