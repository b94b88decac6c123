// The notify datagram against real unix sockets: both kinds of address, and every refusal.
#include "sys/notify.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "sys/handover.h"
#include "sys/owned_fd.h"

namespace flannelette::test {

namespace {

// A directory that goes, with the socket `notify` in it, when the test ends.
class SocketDirectory {
 public:
  SocketDirectory() { REQUIRE(::mkdtemp(path_.data()) != nullptr); }
  SocketDirectory(const SocketDirectory&) = delete;
  SocketDirectory& operator=(const SocketDirectory&) = delete;
  ~SocketDirectory() {
    ::unlink(socket().c_str());
    ::rmdir(path_.c_str());
  }
  std::string socket() const { return path_ + "/notify"; }

 private:
  std::string path_ = "/tmp/flannelette-notify-XXXXXX";
};

// A manager's socket, bound to a path, or to an abstract name given as `@name`.
OwnedFd listen_on(const std::string& address) {
  OwnedFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  REQUIRE(fd.valid());
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  address.copy(local.sun_path, sizeof(local.sun_path));
  const bool abstract = address[0] == '@';
  if (abstract) local.sun_path[0] = '\0';
  const size_t bytes = offsetof(sockaddr_un, sun_path) + address.size() + (abstract ? 0 : 1);
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&local),
                 static_cast<socklen_t>(bytes)) == 0);
  return fd;
}

std::string received(const OwnedFd& fd) {
  std::array<char, 4096> buffer{};
  const ssize_t bytes = ::recv(fd.get(), buffer.data(), buffer.size(), 0);
  return bytes < 0 ? "nothing" : std::string(buffer.data(), static_cast<size_t>(bytes));
}

int refusal(const Status& status) { return status.has_value() ? status->number : 0; }

std::string abstract_name() { return "@flannelette-notify-test-" + std::to_string(::getpid()); }

}  // namespace

TEST_CASE("one datagram reaches the manager's path, and nothing after it") {
  const SocketDirectory directory;
  const OwnedFd manager = listen_on(directory.socket());
  REQUIRE_FALSE(notify(directory.socket(), "READY=1\nSTATUS=up").has_value());
  CHECK(received(manager) == "READY=1\nSTATUS=up");
  CHECK(received(manager) == "nothing");
}

TEST_CASE("an @ names a socket in the abstract namespace, up to sun_path's last byte") {
  const std::string name = abstract_name();
  for (const std::string& address : {name, name + std::string(108 - name.size(), 'x')}) {
    const OwnedFd manager = listen_on(address);
    REQUIRE_FALSE(notify(address, "STOPPING=1").has_value());
    CHECK(received(manager) == "STOPPING=1");
  }
}

TEST_CASE("an address that does not fit sun_path is refused, not cut") {
  const std::string path = "/" + std::string(106, 'x');
  CHECK(refusal(notify(path, "READY=1")) == ENOENT);
  const Status long_path = notify(path + "x", "READY=1");
  REQUIRE(long_path.has_value());
  CHECK(long_path->number == ENAMETOOLONG);
  CHECK(long_path->operation == std::string("NOTIFY_SOCKET"));
  CHECK(refusal(notify("@" + std::string(107, 'x'), "READY=1")) == ECONNREFUSED);
  CHECK(refusal(notify("@" + std::string(108, 'x'), "READY=1")) == ENAMETOOLONG);
}

TEST_CASE("an address of another form is refused") {
  CHECK(refusal(notify("", "READY=1")) == EAFNOSUPPORT);
  CHECK(refusal(notify("run/notify", "READY=1")) == EAFNOSUPPORT);
  CHECK(refusal(notify("vsock:2:1234", "READY=1")) == EAFNOSUPPORT);
  CHECK(refusal(notify(std::string("/run\0/notify", 12), "READY=1")) == EINVAL);
}

TEST_CASE("nobody listening is ECONNREFUSED, no socket at all ENOENT") {
  const SocketDirectory directory;
  CHECK(refusal(notify(directory.socket(), "READY=1")) == ENOENT);
  listen_on(directory.socket()).reset();
  const Status gone = notify(directory.socket(), "READY=1");
  REQUIRE(gone.has_value());
  CHECK(gone->number == ECONNREFUSED);
  CHECK(gone->operation == std::string("sendmsg"));
  CHECK(gone->detail == directory.socket());
  CHECK(refusal(notify(abstract_name(), "READY=1")) == ECONNREFUSED);
}

TEST_CASE("a manager that does not read makes it EAGAIN, never a wait") {
  const SocketDirectory directory;
  const OwnedFd manager = listen_on(directory.socket());
  int number = 0;
  // The queue holds net.unix.max_dgram_qlen datagrams, 10 to some hundred.
  for (int sent = 0; number == 0 && sent < 100'000; ++sent)
    number = refusal(notify(directory.socket(), "STATUS=still here"));
  CHECK(number == EAGAIN);
  CHECK(received(manager) == "STATUS=still here");
}

namespace {

// A manager that deals with descriptors in one way, until it has seen `messages`.
class Manager {
 public:
  Manager(const std::string& path, DescriptorStore kind, int messages)
      : fd_(listen_on(path)), thread_([this, kind, messages] { run(kind, messages); }) {}
  Manager(const Manager&) = delete;
  Manager& operator=(const Manager&) = delete;
  ~Manager() { thread_.join(); }

 private:
  void run(DescriptorStore kind, int messages) {
    std::vector<OwnedFd> stored;
    for (int seen = 0; seen < messages; ++seen) {
      pollfd ready = {fd_.get(), POLLIN, 0};
      if (::poll(&ready, 1, 5'000) <= 0) return;
      auto got = receive_handover(fd_.get());
      if (!got.ok()) return;
      const std::string& message = got.value().message;
      if (message.starts_with("FDSTORE=1") && kind != DescriptorStore::kNone)
        stored = std::move(got.value().descriptors);
      if (message.starts_with("FDSTOREREMOVE=1") && kind == DescriptorStore::kUsable)
        stored.clear();
    }
  }

  OwnedFd fd_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("what a manager does with descriptors is found out with a pipe") {
  struct Case {
    DescriptorStore kind;
    int messages;
  };
  for (const auto& [kind, messages] : {Case{DescriptorStore::kNone, 2},
                                       {DescriptorStore::kUsable, 3},
                                       {DescriptorStore::kNoReturn, 4}}) {
    const SocketDirectory directory;
    const Manager manager(directory.socket(), kind, messages);
    auto probed = probe_descriptor_store(directory.socket(), 300);
    REQUIRE(probed.ok());
    CHECK(probed.value() == kind);
    // One that keeps them waits for one message more: its copy is there while it is asked.
    if (kind == DescriptorStore::kNoReturn)
      REQUIRE_FALSE(notify(directory.socket(), "READY=1").has_value());
  }
}

TEST_CASE("a barrier is behind what was sent before; one that nobody takes is ETIMEDOUT") {
  const SocketDirectory directory;
  {
    const Manager manager(directory.socket(), DescriptorStore::kNone, 1);
    CHECK_FALSE(notify_barrier(directory.socket(), 5'000).has_value());
  }
  ::unlink(directory.socket().c_str());
  const OwnedFd deaf = listen_on(directory.socket());
  CHECK(refusal(notify_barrier(directory.socket(), 20)) == ETIMEDOUT);
}

}  // namespace flannelette::test
