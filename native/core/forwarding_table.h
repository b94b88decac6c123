// The compiled route table the data plane reads per packet: longest prefix match from an inner
// destination to the host that holds its subnet.
//
// A multibit trie with strides 16-8-8. A /24 route, flannel's common case, costs two dependent
// loads; one of /16 or shorter costs one. The table never changes once built: an update builds a
// new one and publishes it (core/published.h).
//
//   level 1: 65,536 entries ---> block of 256 ---> block of 256
//            address >> 16       (>> 8) & 255      & 255
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/ipv4.h"

namespace flannelette {

struct Route {
  Subnet subnet;
  uint32_t next_hop = 0;  // the holder's PublicIP, host order; never 0
};

class ForwardingTable {
 public:
  ForwardingTable() : ForwardingTable(std::span<const Route>{}) {}
  // Builds from routes in any order; of two routes to one subnet the later wins.
  explicit ForwardingTable(std::span<const Route> routes);

  // The next hop of the longest matching prefix; 0 when there is none.
  uint32_t lookup(uint32_t address) const {
    uint32_t entry = root_[address >> 16];
    if (entry & kChild) {
      entry = blocks_[(entry & ~kChild) * kBlock + ((address >> 8) & 0xff)];
      if (entry & kChild) entry = blocks_[(entry & ~kChild) * kBlock + (address & 0xff)];
    }
    return next_hops_[entry];
  }

  // Whether any route leads to this host. Binary search: for the slow path of refused datagrams.
  bool has_next_hop(uint32_t next_hop) const;

  size_t route_count() const { return route_count_; }
  size_t memory_bytes() const;

 private:
  static constexpr uint32_t kChild = 0x80000000U;
  static constexpr uint32_t kBlock = 256;

  void insert(Subnet subnet, uint32_t entry);
  // The block behind an entry, made from the entry's own route where there is none yet.
  uint32_t child_of(uint32_t entry);

  std::vector<uint32_t> root_;       // index into next_hops_, or kChild | block number
  std::vector<uint32_t> blocks_;     // blocks of 256 entries
  std::vector<uint32_t> next_hops_;  // next_hops_[0] == 0: no route; sorted and unique
  size_t route_count_ = 0;
};

}  // namespace flannelette
