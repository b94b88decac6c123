#include "core/forwarding_table.h"

namespace flannelette {

namespace {

// Bits of the address above the node that a prefix ends in: 0, 8, 16 or 24.
uint32_t bits_above(uint32_t prefix) { return prefix == 0 ? 0 : (prefix - 1) / 8 * 8; }

uint32_t slot_at(uint32_t network, uint32_t bits) { return (network >> (24 - bits)) & 0xff; }

// Where a subnet stands in its node: the tree's row of its length, counted from the left.
uint32_t place_of(const Subnet& subnet) {
  const uint32_t bits = bits_above(subnet.prefix);
  const uint32_t length = subnet.prefix - bits;
  return (1U << length) + (slot_at(subnet.network, bits) >> (8 - length));
}

}  // namespace

void ForwardingTable::set(const Route& route) {
  const uint32_t before = exact(route.subnet);
  if (before == route.next_hop) return;
  NodePointer* node = &root_;
  const uint32_t end = bits_above(route.subnet.prefix);
  for (uint32_t bits = 0; bits < end; bits += 8)
    node = &child_of(*node, slot_at(route.subnet.network, bits));
  Node& last = editable(*node);
  const uint32_t place = place_of(route.subnet);
  last.routes.set(place);
  allot(last, place, route.next_hop);

  next_hops_.add(route.next_hop);
  if (before == 0) {
    ++route_count_;
  } else {
    next_hops_.remove(before);
  }
}

bool ForwardingTable::remove(const Subnet& subnet) {
  const uint32_t before = exact(subnet);
  if (before == 0) return false;
  prune(root_, subnet.network, subnet.prefix, 0);
  next_hops_.remove(before);
  --route_count_;
  return true;
}

uint32_t ForwardingTable::exact(const Subnet& subnet) const {
  const Node* node = root_.get();
  const uint32_t end = bits_above(subnet.prefix);
  for (uint32_t bits = 0; bits < end; bits += 8) {
    if (!node->inner) return 0;
    node = static_cast<const InnerNode*>(node)->child[slot_at(subnet.network, bits)].get();
    if (node == nullptr) return 0;
  }
  const uint32_t place = place_of(subnet);
  return node->routes.test(place) ? node->next_hop[place] : 0;
}

// The node itself where this table alone has it, a copy in its place where it is shared. Called
// from the root on: a node is this table's alone only if all above it are.
ForwardingTable::Node& ForwardingTable::editable(NodePointer& node) {
  if (node.use_count() > 1) {
    if (node->inner) {
      node = std::make_shared<InnerNode>(static_cast<const InnerNode&>(*node));
    } else {
      node = std::make_shared<Node>(*node);
    }
  }
  return *node;
}

ForwardingTable::NodePointer& ForwardingTable::child_of(NodePointer& node, uint32_t slot) {
  if (!node->inner) node = std::make_shared<InnerNode>(*node);
  auto& inner = static_cast<InnerNode&>(editable(node));
  if (inner.child[slot] == nullptr) inner.child[slot] = std::make_shared<Node>();
  return inner.child[slot];
}

// Gives a place and all below it, down to where longer routes begin, their next hop.
void ForwardingTable::allot(Node& node, uint32_t place, uint32_t next_hop) {
  node.next_hop[place] = next_hop;
  if (place >= kSlots) return;
  for (const uint32_t below : {2 * place, 2 * place + 1})
    if (!node.routes.test(below)) allot(node, below, next_hop);
}

// Takes a route that is there away, and the nodes on the way that are then empty.
void ForwardingTable::prune(NodePointer& node, uint32_t network, uint32_t prefix, uint32_t depth) {
  Node& here = editable(node);
  if (depth < bits_above(prefix)) {
    NodePointer& child = static_cast<InnerNode&>(here).child[slot_at(network, depth)];
    prune(child, network, prefix, depth + 8);
  } else {
    const uint32_t place = place_of({network, prefix});
    here.routes.reset(place);
    // What covers it: the place above; above the first there is nothing in this node.
    allot(here, place, here.next_hop[place / 2]);
  }
  if (depth == 0 || here.routes.any()) return;
  if (here.inner)
    for (const NodePointer& child : static_cast<const InnerNode&>(here).child)
      if (child != nullptr) return;
  node.reset();
}

size_t ForwardingTable::memory_bytes() const {
  return memory_of(*root_) + next_hops_.memory_bytes();
}

size_t ForwardingTable::memory_of(const Node& node) {
  if (!node.inner) return sizeof(Node);
  size_t bytes = sizeof(InnerNode);
  for (const NodePointer& child : static_cast<const InnerNode&>(node).child)
    if (child != nullptr) bytes += memory_of(*child);
  return bytes;
}

}  // namespace flannelette
