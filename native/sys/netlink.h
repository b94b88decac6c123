// The few rtnetlink requests that set a TUN device up (rtnetlink(7)), each acknowledged.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <string>

#include "core/ipv4.h"
#include "core/result.h"
#include "sys/mac_address.h"
#include "sys/netlink_message.h"
#include "sys/owned_fd.h"

namespace flannelette {

// A device as it is now.
struct Link {
  std::string name;
  bool up = false;
  bool carrier = false;        // without it what is sent is dropped in front of the device
  int master = 0;              // ifindex of the device it is a port of; 0: none
  uint32_t mtu = 0;            // bytes
  uint32_t queue_packets = 0;  // length of the transmit queue (txqueuelen)
  uint64_t queue_drops = 0;    // tx_dropped
};

// Where a program sees a device's packets.
enum class ProgramPoint : uint8_t { kIngress, kEgress };

enum class RouteChange : uint8_t { kNone, kAdded, kReplaced };

// Where the kernel sends what this host sends to an address, policy rules included.
struct RouteLookup {
  int error = 0;     // ENETUNREACH without a route; EINVAL blackhole, EACCES prohibit, EHOSTUNREACH
  uint8_t type = 0;  // RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST ...
  int ifindex = 0;   // of the device it leaves by
};

class Netlink {
 public:
  static Result<Netlink> open();

  // Adds `address` with prefix length 32. False when it is there already.
  Result<bool> add_address(int ifindex, uint32_t address);
  // Sets the MTU (bytes), the length of the transmit queue (packets), no IPv6 link-local address
  // (so that no router solicitations enter the tunnel; ignored where IPv6 is off), and the device
  // up.
  Status set_up(int ifindex, uint32_t mtu, uint32_t queue_length);
  Status set_mtu(int ifindex, uint32_t mtu);
  Status set_carrier(int ifindex);
  // Makes a device of a kind such as "vxlan"; `data` adds the attributes of that kind
  // (IFLA_INFO_DATA). EEXIST: the name is taken, or what the kind allows once is; EOPNOTSUPP: the
  // kernel lacks the kind, also as a module.
  using LinkData = std::function<void(NetlinkMessage& message)>;
  Status add_link(const std::string& name, const char* kind, const LinkData& data);
  // Deletes a device, if it is there.
  Status delete_link(int ifindex);
  // EBUSY for one that is up before Linux 6.2.
  Status rename_link(int ifindex, const std::string& name);
  // A text that says what the device is for (`ip link set alias`).
  Status set_alias(int ifindex, const std::string& alias);
  // The MAC address of a device that is down.
  Status set_mac(int ifindex, const MacAddress& mac);
  // Permanent entries of the neighbour table, and of a VXLAN device's forwarding table, in place of
  // what is there for the address or the MAC address. Deleting one that is not there is no error.
  Status put_neighbour(int ifindex, uint32_t address, const MacAddress& mac);
  Status delete_neighbour(int ifindex, uint32_t address);
  Status put_forwarding_entry(int ifindex, const MacAddress& mac, uint32_t host);
  Status delete_forwarding_entry(int ifindex, const MacAddress& mac, uint32_t host);
  // Puts a program (bpf(2), BPF_PROG_TYPE_SCHED_CLS) at a device (clsact, Linux 4.5) for as long as
  // the device is there, beside those of others and in place of one that has the same name. The
  // qdisc is made when there is none.
  Status add_program(int ifindex, ProgramPoint point, int program_fd, const std::string& name);
  // Takes the program of that name away, if it is there, and the qdisc when nothing else is on it.
  Status delete_program(int ifindex, ProgramPoint point, const std::string& name);
  // ENODEV: no such device in this network namespace.
  Result<Link> link(int ifindex);

  // Adds the route of `destination` through the device unless `destination` has one, no matter
  // whose. True when it was missing.
  //
  // No preferred source (RTA_PREFSRC): the kernel takes the device's address by itself. Before
  // Linux 5.14 it refuses an address that a bridge's subnet begins with: a broadcast address there.
  Result<bool> add_route(int ifindex, Subnet destination);
  // Makes it the first of the routes of `destination`, in place of whichever was.
  Result<RouteChange> put_route(int ifindex, Subnet destination);
  // Answers what is sent to `destination` with Host Unreachable unless the main table has another
  // route for it, no matter whose. `protocol` tells whose this one is. True when it was missing.
  Result<bool> put_unreachable_route(Subnet destination, uint8_t protocol);
  // Takes all of that protocol away.
  Status delete_unreachable_routes(uint8_t protocol);
  // Puts a route in front of others for `address`, which the device has: it is this host's own also
  // where another device's subnet makes it a broadcast address (before Linux 5.14).
  Status put_local_route(int ifindex, uint32_t address);
  Result<RouteLookup> look_up(uint32_t destination);

  // Makes `destination via gateway` through the device the first of the main table's routes of
  // `destination`, in place of whichever was. ENETUNREACH, or EHOSTUNREACH before Linux 4.17: the
  // gateway is not on a link of this host; ENETDOWN: the device is down. `onlink`: the gateway is
  // taken to be on the device's link, whatever its addresses say.
  Status put_gateway_route(int ifindex, Subnet destination, uint32_t gateway, bool onlink = false);
  // Takes the first route to the destination through the device away, if there is one.
  Status delete_route(int ifindex, Subnet destination);
  // Takes that very route away, if it is there.
  Status delete_gateway_route(int ifindex, Subnet destination, uint32_t gateway,
                              bool onlink = false);

 private:
  using Reply = std::function<void(nlmsghdr& message)>;
  explicit Netlink(OwnedFd fd) : fd_(std::move(fd)) {}
  // Name of the program at one of our priorities; empty: none.
  std::string program_at(int ifindex, ProgramPoint point, uint32_t priority);
  Status delete_program_at(int ifindex, ProgramPoint point, uint32_t priority);
  // `on_reply` is given what comes before the acknowledgement.
  Status request(void* message, const char* operation, std::string detail, int ignored_errno,
                 const Reply& on_reply = nullptr);

  OwnedFd fd_;
  uint32_t sequence_ = 0;
};

}  // namespace flannelette
