#include "engine/kernel_share.h"

#include <net/if.h>

#include <algorithm>
#include <cerrno>

#include "sys/interfaces.h"
#include "sys/route_lookup.h"

namespace flannelette {

namespace {

// Hosts looked at again in one maintain; more than enough for most networks.
constexpr size_t kLooks = 512;
// So many packets handed over and none received say that something between drops them.
constexpr uint64_t kLostInARow = 32;

// Index of the interface with that address; 0: none now.
int interface_of(uint32_t address) {
  auto listed = list_interfaces();
  if (!listed.ok()) return 0;
  for (const Interface& interface : listed.value())
    for (const InterfaceAddress& own : interface.addresses)
      if (own.address == address) return static_cast<int>(interface.index);
  return 0;
}

KernelPathCounters sum(const KernelPathCounters& a, const KernelPathCounters& b) {
  return {
      .sent_packets = a.sent_packets + b.sent_packets,
      .sent_bytes = a.sent_bytes + b.sent_bytes,
      .handed_packets = a.handed_packets + b.handed_packets,
      .received_packets = a.received_packets + b.received_packets,
      .received_bytes = a.received_bytes + b.received_bytes,
      .refused_packets = a.refused_packets + b.refused_packets,
  };
}

}  // namespace

int KernelShare::open(int tun_ifindex, bool beside_left) {
  options_.tun = tun_ifindex;
  options_.underlay = interface_of(options_.local);
  if (options_.underlay == 0) return ENODEV;
  auto opened = KernelPath::open(options_, beside_left);
  if (!opened.ok()) return opened.error().number;
  path_.emplace(std::move(opened.value()));
  seen_ = {};
  std::vector<Key> all;
  for (auto& [key, host] : hosts_) {
    host.in_kernel = false;
    all.push_back(key);
  }
  settle(all);
  return 0;
}

void KernelShare::change(std::span<const Route> changes) {
  std::vector<Key> changed;
  for (const Route& change : changes) {
    const Key key{change.subnet.network, change.subnet.prefix};
    if (change.next_hop == 0) {
      hosts_.erase(key);
      if (path_) (void)path_->delete_host(change.subnet);
    } else {
      Host& host = hosts_[key];
      // Another host's: what the kernel has is wrong.
      if (host.in_kernel && host.address != change.next_hop && path_)
        (void)path_->delete_host(change.subnet);
      host = {change.next_hop, false};
      changed.push_back(key);
    }
  }
  settle(changed);
}

void KernelShare::settle(std::span<const Key> keys) {
  if (!path_ || keys.empty()) return;
  std::vector<uint32_t> addresses;
  std::vector<Key> present;
  for (const Key& key : keys) {
    const auto found = hosts_.find(key);
    if (found == hosts_.end()) continue;
    addresses.push_back(found->second.address);
    present.push_back(key);
  }
  auto ways = ways_to(addresses, options_.local);
  if (!ways.ok()) return;
  for (size_t i = 0; i < present.size(); ++i) {
    Host& host = hosts_[present[i]];
    const Subnet subnet{present[i].first, present[i].second};
    const bool wanted = ways.value()[i].ifindex == static_cast<uint32_t>(options_.underlay);
    const uint32_t mtu = wanted && paths_ != nullptr ? paths_->find(host.address) : 0;
    if (wanted == host.in_kernel && (!wanted || mtu == host.mtu)) continue;
    const Status refused =
        wanted ? path_->put_host(subnet, host.address, mtu) : path_->delete_host(subnet);
    if (refused) continue;
    host.in_kernel = wanted;
    host.mtu = mtu;
  }
}

bool KernelShare::is_current() const {
  char name[IF_NAMESIZE];
  return path_ && path_->is_intact() &&
         ::if_indextoname(static_cast<unsigned>(options_.underlay), name) != nullptr;
}

int KernelShare::maintain() {
  if (!is_current()) {
    close();
    const int refused = open(options_.tun);
    // The interface may come back.
    return refused == ENODEV ? 0 : refused;
  }
  if (const Status refused = path_->keep_alive()) return refused->number;
  std::vector<Key> some;
  auto at = hosts_.lower_bound(next_look_);
  for (; at != hosts_.end() && some.size() < kLooks; ++at) some.push_back(at->first);
  next_look_ = at == hosts_.end() ? Key{} : at->first;
  settle(some);

  auto now = path_->counters();
  if (!now.ok()) return now.error().number;
  const uint64_t handed = now.value().handed_packets - seen_.handed_packets;
  const uint64_t received = now.value().received_packets - seen_.received_packets;
  if (handed < kLostInARow && received == 0) return 0;
  seen_ = now.value();
  return received == 0 ? EPERM : 0;
}

KernelPathCounters KernelShare::counters() {
  if (!path_) return before_;
  auto now = path_->counters();
  return now.ok() ? sum(before_, now.value()) : before_;
}

void KernelShare::leave() {
  before_ = counters();
  if (path_) path_->leave();
  path_.reset();
}

void KernelShare::close() {
  before_ = counters();
  path_.reset();
}

}  // namespace flannelette
