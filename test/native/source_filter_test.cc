// The sockets' own filter: which addresses it lets through, of few hosts and of many, and what the
// kernel makes of it.
#include "sys/source_filter.h"

#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <set>

#include "sys/udp_socket.h"

namespace flannelette::test {
namespace {

// What the kernel's interpreter (Documentation/networking/filter.rst) returns for a source.
uint32_t verdict(const std::vector<sock_filter>& program, uint32_t source) {
  uint32_t loaded = 0;
  for (size_t at = 0; at < program.size(); ++at) {
    const sock_filter& step = program[at];
    switch (step.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        REQUIRE(step.k == static_cast<uint32_t>(SKF_NET_OFF) + 12);
        loaded = source;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        at += loaded >= step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        at += loaded > step.k ? step.jt : step.jf;
        break;
      case BPF_JMP | BPF_JA:
        at += step.k;
        break;
      case BPF_RET | BPF_K:
        return step.k;
      default:
        FAIL("an instruction of another kind: " << step.code);
    }
  }
  FAIL("left by the end");
  return 0;
}

bool accepts(const std::vector<sock_filter>& program, uint32_t source) {
  return verdict(program, source) != 0;
}

void check_all(const std::set<uint32_t>& hosts, size_t most) {
  const auto ranges = cover({hosts.begin(), hosts.end()}, most);
  CHECK(ranges.size() <= most);
  const auto program = source_program(ranges);
  CHECK(program.size() <= 6 * most);
  std::mt19937 random(1);
  const auto check = [&](uint32_t source) {
    const bool inside = std::any_of(ranges.begin(), ranges.end(), [&](const AddressRange& one) {
      return one.first <= source && source <= one.last;
    });
    CHECK(accepts(program, source) == inside);
    CHECK(covers(ranges, source) == inside);
    if (hosts.count(source) != 0) CHECK(inside);
  };
  for (const uint32_t host : hosts)
    for (const uint32_t near : {host - 1, host, host + 1}) check(near);
  for (int i = 0; i < 1000; ++i) check(static_cast<uint32_t>(random()));
  for (const uint32_t edge : {0U, 1U, 0x7fffffffU, 0x80000000U, UINT32_MAX}) check(edge);
}

sockaddr_in port_of(int fd) {
  sockaddr_in bound{};
  socklen_t length = sizeof(bound);
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) == 0);
  return bound;
}

// Sends a datagram from a loopback address; whether it can be read then.
bool arrives(int fd, uint32_t source) {
  auto sender = open_udp_socket(source, 0, 0);
  REQUIRE(sender.ok());
  const sockaddr_in to = port_of(fd);
  char byte = 1;
  REQUIRE(::sendto(sender.value().get(), &byte, 1, 0, reinterpret_cast<const sockaddr*>(&to),
                   sizeof(to)) == 1);
  return ::recv(fd, &byte, 1, MSG_DONTWAIT) == 1;
}

}  // namespace

TEST_CASE("ranges hold every address, and no other as long as they are enough") {
  const auto ranges = cover({7, 3, 4, 3, 9, 8, 5}, 8);
  REQUIRE(ranges.size() == 2);
  CHECK(ranges[0].first == 3);
  CHECK(ranges[0].last == 5);
  CHECK(ranges[1].first == 7);
  CHECK(ranges[1].last == 9);
  CHECK(cover({}, 4).empty());
}

TEST_CASE("of too many gaps the narrow ones are closed") {
  const auto two = cover({10, 20, 1000, 1005, 5000}, 2);
  REQUIRE(two.size() == 2);
  CHECK(two[0].last == 1005);
  CHECK(two[1].first == 5000);
  const auto one = cover({10, 20, 1000}, 1);
  REQUIRE(one.size() == 1);
  CHECK(one[0].first == 10);
  CHECK(one[0].last == 1000);
}

TEST_CASE("the filter takes what the ranges hold: one host, neighbours, both ends, thousands") {
  CHECK_FALSE(accepts(source_program({}), 0x0aa80003));
  check_all({0x0aa80003}, kFilterRangesMax);
  check_all({0x0aa80002, 0x0aa80003, 0x0aa80005}, kFilterRangesMax);
  check_all({0, 1, UINT32_MAX}, kFilterRangesMax);
  std::mt19937 random(7);
  for (const size_t count : {2U, 3U, 127U, 128U, 129U, 5000U}) {
    std::set<uint32_t> hosts;
    while (hosts.size() < count) hosts.insert(static_cast<uint32_t>(random()));
    check_all(hosts, kFilterRangesMax);
    check_all(hosts, 3);
  }
}

TEST_CASE("the kernel refuses by it before the socket's queue, and counts that") {
  auto socket = open_udp_socket(INADDR_LOOPBACK, 0, 0);
  REQUIRE(socket.ok());
  const int fd = socket.value().get();
  constexpr uint32_t kFriend = INADDR_LOOPBACK + 1;
  constexpr uint32_t kStranger = INADDR_LOOPBACK + 2;
  CHECK(arrives(fd, kStranger));
  const auto before = socket_drops(fd);
  REQUIRE(attach_source_filter(fd, cover({kFriend}, 8)) == 0);
  CHECK(arrives(fd, kFriend));
  CHECK_FALSE(arrives(fd, kStranger));
  if (before.has_value()) CHECK(socket_drops(fd) == *before + 1);
  // Another one takes its place.
  REQUIRE(attach_source_filter(fd, cover({kStranger}, 8)) == 0);
  CHECK(arrives(fd, kStranger));
  CHECK_FALSE(arrives(fd, kFriend));
  REQUIRE(detach_source_filter(fd) == 0);
  CHECK(arrives(fd, kFriend));
  CHECK(detach_source_filter(fd) == ENOENT);
}

TEST_CASE("the largest filter fits what the kernel allows a socket") {
  std::mt19937 random(9);
  std::vector<uint32_t> hosts;
  for (int i = 0; i < 5000; ++i) hosts.push_back(static_cast<uint32_t>(random()));
  hosts.push_back(INADDR_LOOPBACK);
  auto socket = open_udp_socket(INADDR_LOOPBACK, 0, 0);
  REQUIRE(socket.ok());
  REQUIRE(attach_source_filter(socket.value().get(), cover(hosts, kFilterRangesMax)) == 0);
  CHECK(arrives(socket.value().get(), INADDR_LOOPBACK));
}

}  // namespace flannelette::test
