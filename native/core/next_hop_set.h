// The next hops of a forwarding table, counted by route. A value: copies share what is equal, and a
// change copies one bucket of 256.
//
// Copies and changes belong to one thread; the others only read copies they were handed.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace flannelette {

class NextHopSet {
 public:
  void add(uint32_t next_hop);
  // Takes back one `add` of this next hop.
  void remove(uint32_t next_hop);
  bool contains(uint32_t next_hop) const;
  // Each once, in no order.
  std::vector<uint32_t> all() const;

  size_t memory_bytes() const;

 private:
  struct Counted {
    uint32_t next_hop;
    uint32_t routes;
  };
  using Bucket = std::vector<Counted>;  // ascending
  using Buckets = std::array<std::shared_ptr<Bucket>, 256>;

  Bucket& editable(uint32_t next_hop);

  std::shared_ptr<Buckets> buckets_ = std::make_shared<Buckets>();
};

}  // namespace flannelette
