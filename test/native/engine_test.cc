// Opening an engine that cannot be: the error names what was refused, and nothing is left behind.
// What needs a device and traffic is tested in network namespaces.
#include "engine/engine.h"

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <net/if.h>

#include <cerrno>
#include <cstring>

#include "packets.h"
#include "sys/address.h"
#include "sys/udp_socket.h"

namespace flannelette::test {

namespace {

size_t open_descriptors() {
  size_t count = 0;
  DIR* directory = ::opendir("/proc/self/fd");
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

size_t interfaces() {
  size_t count = 0;
  struct if_nameindex* all = ::if_nameindex();
  for (auto* each = all; each != nullptr && each->if_index != 0; ++each) ++count;
  ::if_freenameindex(all);
  return count;
}

constexpr uint32_t kLocalhost = ip(127, 0, 0, 1);

uint16_t port_of(int fd) {
  sockaddr_in local{};
  socklen_t length = sizeof(local);
  REQUIRE(::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == 0);
  return ntohs(local.sin_port);
}

EngineOptions options() {
  EngineOptions out;
  out.tun_address = kTunAddress;
  out.overlay = kOverlay;
  out.own = kOwn;
  out.bind_address = kLocalhost;
  out.port = 0;  // the kernel picks a free one
  return out;
}

}  // namespace

TEST_CASE("engine: a port that is taken is refused before any device is made") {
  auto holder = open_udp_socket(kLocalhost, 0, 0);
  REQUIRE(holder.ok());
  const size_t descriptors = open_descriptors();
  const size_t devices = interfaces();
  EngineOptions taken = options();
  taken.port = port_of(holder.value().get());
  auto engine = Engine::open(taken);
  REQUIRE(!engine.ok());
  CHECK(engine.error().number == EADDRINUSE);
  CHECK(std::string(engine.error().operation) == "bind");
  CHECK(engine.error().detail == "127.0.0.1:" + std::to_string(taken.port));
  CHECK(open_descriptors() == descriptors);
  CHECK(interfaces() == devices);
}

TEST_CASE("engine: an address that is not this host's is refused") {
  const size_t descriptors = open_descriptors();
  EngineOptions foreign = options();
  foreign.bind_address = ip(203, 0, 113, 7);
  auto engine = Engine::open(foreign);
  REQUIRE(!engine.ok());
  CHECK(engine.error().number == EADDRNOTAVAIL);
  CHECK(engine.error().detail == "203.0.113.7:0");
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("engine: a device name of 16 bytes is refused and leaves nothing") {
  const size_t descriptors = open_descriptors();
  const size_t devices = interfaces();
  EngineOptions named = options();
  named.tun_name = "sixteen-bytes-xx";
  REQUIRE(named.tun_name.size() == IFNAMSIZ);
  auto engine = Engine::open(named);
  REQUIRE(!engine.ok());
  // Without CAP_NET_RAW or /dev/net/tun it ends before the name is looked at.
  const std::string operation = engine.error().operation;
  if (operation == "TUNSETIFF") {
    CHECK(engine.error().number == ENAMETOOLONG);
    CHECK(engine.error().detail == named.tun_name);
  } else {
    CAPTURE(operation);
    CHECK((operation == "socket RAW" || operation == "open /dev/net/tun"));
    MESSAGE("not reached without privilege: " << operation << " refused");
  }
  CHECK(open_descriptors() == descriptors);
  CHECK(interfaces() == devices);
}

TEST_CASE("udp socket: non-blocking, closed at exec, a wished buffer is asked for") {
  auto socket = open_udp_socket(kLocalhost, 0, 65536);
  REQUIRE(socket.ok());
  const int fd = socket.value().get();
  CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  int bytes = 0;
  socklen_t length = sizeof(bytes);
  REQUIRE(::getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &length) == 0);
  CHECK(bytes >= 65536);
  CHECK(port_of(fd) != 0);
}

TEST_CASE("udp sockets: several share a port that nobody else can take") {
  auto first = open_udp_socket(kLocalhost, 0, 0);
  REQUIRE(first.ok());
  const uint16_t port = port_of(first.value().get());
  std::vector<OwnedFd> sockets;
  sockets.push_back(std::move(first.value()));
  REQUIRE(add_udp_sockets(sockets, 4, kLocalhost, port, 0) == 0);
  CHECK(sockets.size() == 4);
  for (const OwnedFd& socket : sockets) CHECK(port_of(socket.get()) == port);
  // Another daemon's first socket, whatever it wants after.
  auto second = open_udp_socket(kLocalhost, port, 0);
  REQUIRE(!second.ok());
  CHECK(second.error().number == EADDRINUSE);
}

TEST_CASE("udp sockets: a port that is ours alone is not shared, also when it was before") {
  auto holder = open_udp_socket(kLocalhost, 0, 0);
  REQUIRE(holder.ok());
  const uint16_t port = port_of(holder.value().get());
  std::vector<OwnedFd> sockets;
  sockets.push_back(std::move(holder.value()));
  REQUIRE(add_udp_sockets(sockets, 2, kLocalhost, port, 0) == 0);
  leave_one_udp_socket(sockets);
  CHECK(sockets.size() == 1);
  // Even who sets SO_REUSEPORT himself is refused.
  const OwnedFd intruder(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  REQUIRE(::setsockopt(intruder.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) == 0);
  const sockaddr_in local = socket_address(kLocalhost, port);
  CHECK(::bind(intruder.get(), reinterpret_cast<const sockaddr*>(&local), sizeof(local)) == -1);
  CHECK(errno == EADDRINUSE);
}

TEST_CASE("kernel io: results and negative errnos of the real calls") {
  Io& io = kernel_io();
  auto pipe = EventPipe::open();
  REQUIRE(pipe.ok());
  const OwnedFd reader(pipe.value().take_read_end());
  Bytes buffer(64);
  CHECK(io.read(reader.get(), buffer.data(), buffer.size()) == -EAGAIN);
  REQUIRE(pipe.value().write({EventType::kMiss, 0, 0, 0}));
  CHECK(io.read(reader.get(), buffer.data(), buffer.size()) == 16);
  CHECK(io.read(-1, buffer.data(), buffer.size()) == -EBADF);
  CHECK(io.write(-1, buffer.data(), buffer.size()) == -EBADF);
  auto socket = open_udp_socket(kLocalhost, 0, 0);
  REQUIRE(socket.ok());
  iovec bytes{buffer.data(), buffer.size()};
  mmsghdr messages[2] = {};
  messages[0].msg_hdr.msg_iov = &bytes;
  messages[0].msg_hdr.msg_iovlen = 1;
  CHECK(io.recvmsg(socket.value().get(), &messages[0].msg_hdr) == -EAGAIN);
  CHECK(io.recvmmsg(socket.value().get(), messages, 1) == -EAGAIN);
  CHECK(io.sendmsg(socket.value().get(), &messages[0].msg_hdr) == -EDESTADDRREQ);
  CHECK(io.sendmmsg(reader.get(), messages, 1) == -ENOTSOCK);
  pollfd fds[1] = {{reader.get(), POLLIN, 0}};
  CHECK(io.poll(fds, 1, 0) == 0);
}

TEST_CASE("owned descriptors are closed once, by their last owner") {
  const size_t before = open_descriptors();
  {
    auto socket = open_udp_socket(kLocalhost, 0, 0);
    REQUIRE(socket.ok());
    OwnedFd moved = std::move(socket.value());
    CHECK(!socket.value().valid());
    CHECK(moved.valid());
    OwnedFd other;
    other = std::move(moved);
    CHECK(!moved.valid());
    CHECK(open_descriptors() == before + 1);
    const int released = other.release();
    CHECK(!other.valid());
    OwnedFd last(released);
  }
  CHECK(open_descriptors() == before);
}

}  // namespace flannelette::test
