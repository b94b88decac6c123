// Fuzz target: any routes against the naive table. Input: 7 bytes a route: network (4), prefix
// length (1), next hop (2).
#include "core/forwarding_table.h"

#include <cstdint>
#include <cstdlib>

#include "../native/packets.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kRouteBytes = 7;
  constexpr size_t kRoutesMax = 200;  // the naive table is quadratic here
  std::vector<Route> routes;
  for (size_t at = 0; at + kRouteBytes <= size && routes.size() < kRoutesMax; at += kRouteBytes) {
    const std::span<const uint8_t> route(data + at, kRouteBytes);
    const uint32_t prefix = route[4] % 33U;
    const uint32_t hop = word_at(route, 5) + 1U;
    routes.push_back({{long_at(route, 0) & prefix_mask(prefix), prefix}, hop});
  }
  const ForwardingTable table(routes);
  const NaiveTable naive(routes);
  require(table.route_count() == routes.size());
  const auto compare = [&](uint32_t address) {
    require(table.lookup(address) == naive.lookup(address));
  };
  compare(0);
  compare(0xffffffffU);
  for (const Route& route : routes) {
    compare(route.subnet.network);
    compare(route.subnet.network - 1);
    compare(route.subnet.broadcast());
    compare(route.subnet.broadcast() + 1);
    require(table.has_next_hop(route.next_hop));
    require(table.has_next_hop(route.next_hop + 1) == naive.has_next_hop(route.next_hop + 1));
  }
  require(!table.has_next_hop(0));
  return 0;
}
