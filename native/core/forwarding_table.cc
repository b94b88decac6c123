#include "core/forwarding_table.h"

#include <algorithm>
#include <array>
#include <bit>

namespace flannelette {

namespace {

// Fibonacci hashing: neighbouring addresses, which PublicIPs are, spread over the whole range.
uint32_t mixed(uint32_t address) { return address * 0x9e3779b1U; }

}  // namespace

ForwardingTable::ForwardingTable(std::span<const Route> routes)
    : root_(65536), blocks_(kBlock), route_count_(routes.size()) {
  const size_t slots = std::bit_ceil(std::max<size_t>(2 * routes.size(), 2));
  next_hops_.assign(slots, 0);
  next_hops_shift_ = 32U - static_cast<uint32_t>(std::bit_width(slots) - 1);

  // Shorter prefixes first, so that longer ones overwrite what they cover; a counting sort keeps
  // the order of routes to one subnet.
  std::array<size_t, 34> begin{};
  for (const Route& route : routes) ++begin[route.subnet.prefix + 1];
  for (size_t prefix = 1; prefix < begin.size(); ++prefix) begin[prefix] += begin[prefix - 1];
  std::vector<const Route*> order(routes.size());
  for (const Route& route : routes) order[begin[route.subnet.prefix]++] = &route;
  for (const Route* route : order) {
    insert(*route);
    remember_next_hop(route->next_hop);
  }
}

void ForwardingTable::insert(const Route& route) {
  // Longer prefixes come later: whatever a range holds now is shorter and may be overwritten.
  // Child blocks under the range cannot exist for the same reason at prefixes <= 16.
  const Subnet& subnet = route.subnet;
  const Entry entry{route.next_hop, 0};
  Entry& high = root_[subnet.network >> 16];
  if (subnet.prefix <= 16) {
    std::fill_n(&high, size_t{1} << (16 - subnet.prefix), entry);
    return;
  }
  const size_t second = size_t{child_of(high)} * kBlock + ((subnet.network >> 8) & 0xff);
  if (subnet.prefix <= 24) {
    std::fill_n(blocks_.begin() + static_cast<ptrdiff_t>(second), size_t{1} << (24 - subnet.prefix),
                entry);
    return;
  }
  // child_of may move blocks_: the entry is copied out and in.
  Entry middle = blocks_[second];
  const size_t third = size_t{child_of(middle)} * kBlock + (subnet.network & 0xff);
  blocks_[second] = middle;
  std::fill_n(blocks_.begin() + static_cast<ptrdiff_t>(third), size_t{1} << (32 - subnet.prefix),
              entry);
}

uint32_t ForwardingTable::child_of(Entry& entry) {
  if (entry.child != 0) return entry.child;
  entry.child = static_cast<uint32_t>(blocks_.size() / kBlock);
  blocks_.insert(blocks_.end(), kBlock, Entry{entry.next_hop, 0});
  return entry.child;
}

void ForwardingTable::remember_next_hop(uint32_t next_hop) {
  size_t at = mixed(next_hop) >> next_hops_shift_;
  while (next_hops_[at] != 0 && next_hops_[at] != next_hop) at = (at + 1) & (next_hops_.size() - 1);
  next_hops_[at] = next_hop;
}

bool ForwardingTable::has_next_hop(uint32_t next_hop) const {
  if (next_hop == 0) return false;
  // At most half of the slots are in use: there is a free one to end at.
  size_t at = mixed(next_hop) >> next_hops_shift_;
  for (; next_hops_[at] != 0; at = (at + 1) & (next_hops_.size() - 1))
    if (next_hops_[at] == next_hop) return true;
  return false;
}

size_t ForwardingTable::memory_bytes() const {
  return (root_.capacity() + blocks_.capacity()) * sizeof(Entry) +
         next_hops_.capacity() * sizeof(uint32_t);
}

}  // namespace flannelette
