// Fuzz target: any changes of routes against the naive table. Input: 7 bytes a change: network (4),
// prefix length (1), next hop (2), where 0 takes the route away.
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
  constexpr size_t kChangesMax = 200;  // the naive table is quadratic here
  std::vector<Route> routes;
  ForwardingTable table;
  ForwardingTable copy;
  for (size_t at = 0; at + kRouteBytes <= size && at < kChangesMax * kRouteBytes;
       at += kRouteBytes) {
    const std::span<const uint8_t> change(data + at, kRouteBytes);
    const uint32_t prefix = change[4] % 33U;
    const Subnet subnet{long_at(change, 0) & prefix_mask(prefix), prefix};
    const uint32_t hop = word_at(change, 5);
    const bool there =
        std::erase_if(routes, [&](const Route& route) {
          return route.subnet.network == subnet.network && route.subnet.prefix == subnet.prefix;
        }) > 0;
    if (hop == 0) {
      require(table.remove(subnet) == there);
    } else {
      table.set({subnet, hop});
      routes.push_back({subnet, hop});
    }
    // Now and then a copy, so that nodes are shared.
    if (hop % 8 == 1) copy = table;
  }
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
