// The kernel's own answers, in the namespace the tests run in: lo is there, and what has no route.
#include "sys/route_lookup.h"

#include <doctest/doctest.h>
#include <net/if.h>

namespace flannelette::test {

namespace {

constexpr uint32_t kLoopback = 0x7f000001;       // 127.0.0.1
constexpr uint32_t kOtherLoopback = 0x7f000002;  // 127.0.0.2
constexpr uint32_t kNobodysSource = 0xc6336401;  // 198.51.100.1, TEST-NET-2

std::vector<uint32_t> lookup(const std::vector<uint32_t>& destinations, uint32_t source = 0) {
  auto found = ways_to(destinations, source);
  REQUIRE(found.ok());
  std::vector<uint32_t> out;
  for (const Way& way : found.value()) out.push_back(way.ifindex);
  return out;
}

uint32_t by_lo() { return ::if_nametoindex("lo"); }

}  // namespace

TEST_CASE("an address of this host's own leaves by lo") {
  CHECK(lookup({kLoopback, kOtherLoopback}) == std::vector<uint32_t>{by_lo(), by_lo()});
  CHECK(lookup({kLoopback}, kOtherLoopback) == std::vector<uint32_t>{by_lo()});
}

TEST_CASE("a source that this host lacks is as good as none") {
  CHECK(lookup({kLoopback}, kNobodysSource) == std::vector<uint32_t>{by_lo()});
}

TEST_CASE("nothing asked is nothing answered") { CHECK(lookup({}).empty()); }

TEST_CASE("more than the socket's buffer holds at once are all answered, in order") {
  std::vector<uint32_t> destinations;
  for (uint32_t host = 0; host < 5000; ++host) destinations.push_back(0x7f000001 + host);
  CHECK(lookup(destinations) == std::vector<uint32_t>(destinations.size(), by_lo()));
}

}  // namespace flannelette::test
