// The route table the data plane reads per packet: longest prefix match from an inner destination
// to the host that holds its subnet.
//
// A trie with a stride of 8 bits. Each node is an allotment table (Hariguchi and Knuth's ART): a
// complete binary tree of the 511 prefixes that end in it, in an array, where each place holds the
// next hop of the longest route at or above it. The last 256 places answer lookups; a change walks
// only the places below its own.
//
//   node: 1              0.0.0.0/0 (root only)   child[0..255], in inner nodes
//         2 3            0/1 128/1                 |
//         4 5 6 7        0/2 64/2 ...              v
//         256 ... 511    0/8 1/8 ... 255/8       node of the next 8 bits
//
// A table is a value: copies share their nodes, and a change copies only the nodes on its way that
// are shared. So publishing each change (core/published.h) costs microseconds with 65,536 routes.
// Copies and changes belong to one thread; the others only read copies they were handed.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/ipv4.h"
#include "core/next_hop_set.h"

namespace flannelette {

struct Route {
  Subnet subnet;
  uint32_t next_hop = 0;  // the holder's PublicIP, host order; never 0 in a table
};

class ForwardingTable {
 public:
  ForwardingTable() = default;
  // Routes in any order; of two routes to one subnet the later wins.
  explicit ForwardingTable(std::span<const Route> routes) {
    for (const Route& route : routes) set(route);
  }

  // Adds a route, or replaces the one to the same subnet.
  void set(const Route& route);
  // Takes the route to exactly this subnet away; false when there was none.
  bool remove(const Subnet& subnet);

  // The next hop of the longest matching prefix; 0 when there is none.
  uint32_t lookup(uint32_t address) const {
    uint32_t next_hop = 0;
    const Node* node = root_.get();
    for (uint32_t shift = 24;; shift -= 8) {
      const uint32_t slot = (address >> shift) & 0xff;
      if (const uint32_t here = node->next_hop[kSlots + slot]; here != 0) next_hop = here;
      if (!node->inner) return next_hop;
      node = static_cast<const InnerNode*>(node)->child[slot].get();
      if (node == nullptr) return next_hop;
    }
  }

  // Whether any route leads to this host: it holds a lease. For datagrams whose inner source is in
  // no lease of their sender.
  bool has_next_hop(uint32_t next_hop) const { return next_hops_.contains(next_hop); }

  std::vector<uint32_t> next_hops() const { return next_hops_.all(); }

  size_t route_count() const { return route_count_; }
  size_t memory_bytes() const;

 private:
  static constexpr uint32_t kSlots = 256;   // answers of a node: one for each value of its 8 bits
  static constexpr uint32_t kPlaces = 512;  // prefixes that end in it, and place 0, which is unused

  struct Node {
    bool inner = false;           // an InnerNode
    std::bitset<kPlaces> routes;  // places where a route ends
    // Place p holds the next hop of the longest route at p or above it in this node; 0: none.
    std::array<uint32_t, kPlaces> next_hop{};
  };
  struct InnerNode : Node {
    InnerNode() { inner = true; }
    explicit InnerNode(const Node& leaf) : Node(leaf) { inner = true; }
    std::array<std::shared_ptr<Node>, kSlots> child;
  };
  using NodePointer = std::shared_ptr<Node>;

  static Node& editable(NodePointer& node);
  static NodePointer& child_of(NodePointer& node, uint32_t slot);
  static void allot(Node& node, uint32_t place, uint32_t next_hop);
  static void prune(NodePointer& node, uint32_t network, uint32_t prefix, uint32_t depth);
  static size_t memory_of(const Node& node);

  // The next hop of the route to exactly this subnet; 0 when there is none.
  uint32_t exact(const Subnet& subnet) const;

  NodePointer root_ = std::make_shared<InnerNode>();
  NextHopSet next_hops_;
  size_t route_count_ = 0;
};

}  // namespace flannelette
