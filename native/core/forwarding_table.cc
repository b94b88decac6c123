#include "core/forwarding_table.h"

#include <algorithm>

namespace flannelette {

ForwardingTable::ForwardingTable(std::span<const Route> routes)
    : root_(65536, 0), next_hops_{0}, route_count_(routes.size()) {
  for (const Route& route : routes) next_hops_.push_back(route.next_hop);
  std::sort(next_hops_.begin(), next_hops_.end());
  next_hops_.erase(std::unique(next_hops_.begin(), next_hops_.end()), next_hops_.end());

  // Shorter prefixes first, so that longer ones overwrite what they cover.
  std::vector<const Route*> order;
  order.reserve(routes.size());
  for (const Route& route : routes) order.push_back(&route);
  std::stable_sort(order.begin(), order.end(), [](const Route* a, const Route* b) {
    return a->subnet.prefix < b->subnet.prefix;
  });
  for (const Route* route : order) {
    const auto at = std::lower_bound(next_hops_.begin(), next_hops_.end(), route->next_hop);
    insert(route->subnet, static_cast<uint32_t>(at - next_hops_.begin()));
  }
}

void ForwardingTable::insert(Subnet subnet, uint32_t entry) {
  // Longer prefixes come later: whatever a range holds now is shorter and may be overwritten.
  // Child blocks under the range cannot exist for the same reason at prefixes <= 16.
  const uint32_t high = subnet.network >> 16;
  if (subnet.prefix <= 16) {
    std::fill_n(root_.begin() + high, size_t{1} << (16 - subnet.prefix), entry);
    return;
  }
  root_[high] = child_of(root_[high]);
  const uint32_t second = (root_[high] & ~kChild) * kBlock;
  const uint32_t middle = (subnet.network >> 8) & 0xff;
  if (subnet.prefix <= 24) {
    std::fill_n(blocks_.begin() + second + middle, size_t{1} << (24 - subnet.prefix), entry);
    return;
  }
  // child_of may move blocks_: index again after it.
  const uint32_t child = child_of(blocks_[second + middle]);
  blocks_[second + middle] = child;
  const uint32_t third = (child & ~kChild) * kBlock;
  std::fill_n(blocks_.begin() + third + (subnet.network & 0xff), size_t{1} << (32 - subnet.prefix),
              entry);
}

uint32_t ForwardingTable::child_of(uint32_t entry) {
  if (entry & kChild) return entry;
  const auto block = static_cast<uint32_t>(blocks_.size() / kBlock);
  blocks_.insert(blocks_.end(), kBlock, entry);
  return kChild | block;
}

bool ForwardingTable::has_next_hop(uint32_t next_hop) const {
  return next_hop != 0 && std::binary_search(next_hops_.begin(), next_hops_.end(), next_hop);
}

size_t ForwardingTable::memory_bytes() const {
  return (root_.capacity() + blocks_.capacity() + next_hops_.capacity()) * sizeof(uint32_t);
}

}  // namespace flannelette
