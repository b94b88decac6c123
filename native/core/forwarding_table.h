// The compiled route table the data plane reads per packet: longest prefix match from an inner
// destination to the host that holds its subnet.
//
// A multibit trie with strides 16-8-8. A /24 route, flannel's common case, costs two dependent
// loads; one of /16 or shorter costs one. The table never changes once built: an update builds a
// new one and publishes it (core/published.h). Building is linear: 65,536 routes take a few
// milliseconds, on the control plane's thread.
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
    const Entry* entry = &root_[address >> 16];
    if (entry->child != 0) {
      entry = &blocks_[size_t{entry->child} * kBlock + ((address >> 8) & 0xff)];
      if (entry->child != 0) entry = &blocks_[size_t{entry->child} * kBlock + (address & 0xff)];
    }
    return entry->next_hop;
  }

  // Whether any route leads to this host. For the slow path of refused datagrams.
  bool has_next_hop(uint32_t next_hop) const;

  size_t route_count() const { return route_count_; }
  size_t memory_bytes() const;

 private:
  static constexpr uint32_t kBlock = 256;

  struct Entry {
    uint32_t next_hop = 0;  // of the longest prefix that ends at this level or above; 0: none
    uint32_t child = 0;     // block that knows more; 0: none
  };

  void insert(const Route& route);
  // The block behind an entry, made from the entry's own route where there is none yet.
  uint32_t child_of(Entry& entry);
  void remember_next_hop(uint32_t next_hop);

  std::vector<Entry> root_;
  std::vector<Entry> blocks_;        // blocks of 256 entries; the first is never used
  std::vector<uint32_t> next_hops_;  // a hash set, open addressing; 0: free
  uint32_t next_hops_shift_ = 32;    // hash bits to drop
  size_t route_count_ = 0;
};

}  // namespace flannelette
