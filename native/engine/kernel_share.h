// The kernel's own share of an engine's work: what its programs (sys/kernel_path.h) can carry, they
// carry; all else, and everything when they are refused or fail, the engine's threads carry.
//
// Called by the control thread alone. The programs send by the external interface only and accept
// only what comes by it, so a host that the kernel would reach another way stays with the threads.
// Packets that are longer than the path to their host takes stay with them too; who the hosts are
// is told to PathMtu here, because the threads do not see the others.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/forwarding_table.h"
#include "engine/path_mtu.h"
#include "sys/kernel_path.h"

namespace flannelette {

class KernelShare {
 public:
  // `options` without the indexes of the devices; `paths`: what is known about the paths to hosts,
  // and who finds it out; may be null.
  KernelShare(const KernelPathOptions& options, PathMtu* paths)
      : options_(options), paths_(paths) {}

  // Sets the way up for the tunnel's device. 0, or the errno of what was refused. `beside_left`:
  // see KernelPath::open.
  int open(int tun_ifindex, bool beside_left = false);
  // A next hop of 0 takes the subnet away.
  void change(std::span<const Route> changes);
  // Call it about once a second. Sets the way up again where a device it needs was made again,
  // looks at some of the hosts again, and finds out whether packets that were handed to the
  // decapsulation device come out of it: 0, or the errno to give the way up with. EPERM: none did,
  // so a firewall drops them.
  int maintain();
  // Since the first open.
  KernelPathCounters counters();
  void close();
  // See KernelPath.
  std::vector<int> links() const { return path_ ? path_->links() : std::vector<int>(); }
  void leave();

 private:
  struct Host {
    uint32_t address = 0;
    bool in_kernel = false;
    uint32_t mtu = 0;  // that the kernel was told; 0: none
  };
  using Key = std::pair<uint32_t, uint32_t>;  // network, prefix

  // Puts or deletes hosts as the kernel's routes to them are now.
  void settle(std::span<const Key> keys);
  bool is_current() const;

  KernelPathOptions options_;
  PathMtu* paths_;
  std::map<Key, Host> hosts_;
  Key next_look_{};  // where the next look at some hosts begins
  std::optional<KernelPath> path_;
  KernelPathCounters before_;  // of ways that were closed
  KernelPathCounters seen_;    // by the last maintain
};

}  // namespace flannelette
