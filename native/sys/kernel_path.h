// The way of packets inside the kernel, by the programs of native/bpf/kernel_path.c: what they take
// never reaches the daemon's descriptors, what they leave does.
//
// Everything ends with the object. When the process is killed its programs on the external
// interface go with their descriptors (tcx, Linux 6.6) or let everything pass after some seconds
// (clsact before). The decapsulation device goes with the tunnel's, which it is linked to; where
// that stays, as somebody else has its descriptors, clear() or the next open with the same address
// and port takes it away.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "bpf/kernel_path.h"
#include "core/ipv4.h"
#include "core/result.h"
#include "sys/netlink.h"
#include "sys/owned_fd.h"

namespace flannelette {

struct KernelPathOptions {
  uint32_t local = 0;  // address of this host that the tunnel's socket is bound to
  uint16_t port = 8285;
  Subnet own;
  bool source_check = true;
  int underlay = 0;  // index of the external interface, an Ethernet device
  int tun = 0;       // index of the tunnel's device
};

struct KernelPathCounters {
  uint64_t sent_packets = 0;
  uint64_t sent_bytes = 0;      // headers of segments that the kernel cuts later are not in it
  uint64_t handed_packets = 0;  // to the decapsulation device; what does not come back as received
                                // was dropped on the way, by a firewall's INPUT for instance
  uint64_t received_packets = 0;
  uint64_t received_bytes = 0;
  uint64_t refused_packets = 0;  // sent to the decapsulation device's port by others
};

class KernelPath {
 public:
  // Sets the whole way up; it takes packets as soon as hosts are put. An Error names the step that
  // was refused, with nothing left behind: EOPNOTSUPP for vxlan without the module, EINVAL for a
  // program before Linux 5.10, ENOSYS for bpf without CONFIG_BPF_SYSCALL. With `beside_left` the
  // way that was left goes on, and takes packets before this one does, until end_left().
  static Result<KernelPath> open(const KernelPathOptions& options, bool beside_left = false);

  // Takes away what a killed process has left. Cheap when there is nothing.
  static void clear(uint32_t local, uint16_t port);

  KernelPath(KernelPath&& other) noexcept;
  KernelPath& operator=(KernelPath&& other) noexcept;
  ~KernelPath();

  // Lets the programs carry packets of a subnet to (and accept them from) its host. `mtu`: bytes of
  // the longest they may carry to it; 0: any.
  Status put_host(Subnet subnet, uint32_t host, uint32_t mtu = 0);
  Status delete_host(Subnet subnet);

  // The programs go on for some seconds more; to be called about once a second.
  Status keep_alive();

  // What keeps the programs attached when the process ends: to be held by another one. Empty where
  // they are attached by filters.
  std::vector<int> links() const;
  // Ends the object and not the way: with links() held elsewhere the programs go on for some
  // seconds, with the hosts they know. Without links it is a close.
  void leave();
  // The way that was left ends, and one that is open beside it goes on.
  static void end_left(std::vector<OwnedFd> links, uint32_t local, uint16_t port);

  // Since the open, over all CPUs.
  Result<KernelPathCounters> counters();

  // The decapsulation device is there still.
  bool is_intact() const;

  // Name and UDP port of the decapsulation device.
  const std::string& device() const { return device_; }
  uint16_t device_port() const { return device_port_; }

 private:
  KernelPath() = default;
  // As the programs' loads number them.
  std::array<int, 3> maps() const;
  Status make_maps();
  Status make_device(const KernelPathOptions& options, bool beside_left);
  Status load(const KernelPathOptions& options);
  // Where a program is attached by a filter, and not by a descriptor.
  struct Filter {
    int ifindex;
    ProgramPoint point;
    std::string name;
  };
  Status attach(OwnedFd& out, const char* name, std::span<const uint64_t> code,
                std::span<const std::pair<uint32_t, uint32_t>> loads, int ifindex,
                ProgramPoint point);
  void close();

  OwnedFd settings_;
  OwnedFd hosts_;
  OwnedFd counters_;
  size_t cpus_ = 1;
  int ifindex_ = 0;  // of the decapsulation device; 0: none
  std::string device_;
  uint16_t device_port_ = 0;
  kernel_path_settings values_{};
  std::vector<Filter> filters_;
  // Attached as long as they are open; closed before the device goes.
  OwnedFd decapsulate_;
  OwnedFd encapsulate_;
};

}  // namespace flannelette
