// The few rtnetlink requests that set a TUN device up (rtnetlink(7)), each acknowledged.
#pragma once

#include <cstdint>

#include "core/ipv4.h"
#include "core/result.h"
#include "sys/owned_fd.h"

namespace flannelette {

// What a device's transmit queue is and did.
struct LinkQueue {
  uint32_t packets = 0;  // its length (txqueuelen)
  uint64_t drops = 0;    // tx_dropped
};

class Netlink {
 public:
  static Result<Netlink> open();

  // Adds `address` with prefix length 32. An address that is there already is no error.
  Status add_address(int ifindex, uint32_t address);
  // Sets the MTU (bytes), the length of the transmit queue (packets), no IPv6 link-local address
  // (so that no router solicitations enter the tunnel; ignored where IPv6 is off), and the device
  // up.
  Status set_up(int ifindex, uint32_t mtu, uint32_t queue_length);
  Result<LinkQueue> transmit_queue(int ifindex);
  // Adds or replaces the route of `destination` through the device with a preferred source.
  Status put_route(int ifindex, Subnet destination, uint32_t preferred_source);
  // Adds that route unless `destination` has one, whose ever it is. True when it was missing.
  Result<bool> add_missing_route(int ifindex, Subnet destination, uint32_t preferred_source);

 private:
  explicit Netlink(OwnedFd fd) : fd_(std::move(fd)) {}
  Status request_route(uint16_t flags, int ifindex, Subnet destination, uint32_t preferred_source);
  // `link` takes what a RTM_GETLINK is answered.
  Status request(void* message, const char* operation, std::string detail, int ignored_errno,
                 LinkQueue* link = nullptr);

  OwnedFd fd_;
  uint32_t sequence_ = 0;
};

}  // namespace flannelette
