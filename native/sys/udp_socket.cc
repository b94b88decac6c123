#include "sys/udp_socket.h"

#include <linux/filter.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>

#include "core/headers.h"
#include "sys/address.h"
#include "sys/handover.h"
#include "sys/kernel.h"

namespace flannelette {

namespace {

// The privileged option first; what the kernel grants below it is good enough.
void set_buffer(int fd, int forced, int plain, int bytes) {
  if (::setsockopt(fd, SOL_SOCKET, forced, &bytes, sizeof(bytes)) < 0)
    (void)::setsockopt(fd, SOL_SOCKET, plain, &bytes, sizeof(bytes));
}

void set_buffers(int fd, int bytes) {
  if (bytes <= 0) return;
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, bytes);
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, bytes);
}

int set_reuse_port(int fd, int on) {
  return ::setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) < 0 ? errno : 0;
}

enum class Use : uint8_t { kAlone, kShared, kSendOnly };

int drop_all_received(int fd) {
  sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
  const sock_fprog program = {1, &drop};
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? errno : 0;
}

Result<OwnedFd> open_bound(uint32_t address, uint16_t port, int buffer_bytes, Use use) {
  OwnedFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Error{errno, "socket UDP", ""};
  set_buffers(fd.get(), buffer_bytes);
  if (use == Use::kSendOnly) {
    const int number = drop_all_received(fd.get());
    if (number != 0) return Error{number, "setsockopt SO_ATTACH_FILTER", ""};
  }
  if (use == Use::kShared) {
    const int number = set_reuse_port(fd.get(), 1);
    if (number != 0) return Error{number, "setsockopt SO_REUSEPORT", ""};
  }
  const sockaddr_in local = socket_address(address, port);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&local), sizeof(local)) < 0)
    return Error{errno, "bind", format_address(address) + ":" + std::to_string(port)};
  return fd;
}

}  // namespace

Result<OwnedFd> open_udp_socket(uint32_t address, uint16_t port, int buffer_bytes) {
  return open_bound(address, port, buffer_bytes, Use::kAlone);
}

uint16_t bound_port(int fd) {
  sockaddr_in bound{};
  socklen_t length = sizeof(bound);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) < 0) return 0;
  return ntohs(bound.sin_port);
}

int adopt_udp_socket(int fd, uint32_t address, uint16_t port, int buffer_bytes) {
  sockaddr_in bound{};
  socklen_t length = sizeof(bound);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&bound), &length) < 0) return errno;
  int type = 0;
  socklen_t type_length = sizeof(type);
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) < 0) return errno;
  const sockaddr_in wanted = socket_address(address, port);
  if (bound.sin_family != AF_INET || type != SOCK_DGRAM || bound.sin_port != wanted.sin_port ||
      bound.sin_addr.s_addr != wanted.sin_addr.s_addr)
    return EADDRNOTAVAIL;
  set_buffers(fd, buffer_bytes);
  return keep_private(fd);
}

int add_udp_sockets(std::vector<OwnedFd>& sockets, size_t count, uint32_t address, uint16_t port,
                    int buffer_bytes) {
  int number = set_reuse_port(sockets[0].get(), 1);
  while (number == 0 && sockets.size() < count) {
    auto next = open_bound(address, port, buffer_bytes, Use::kShared);
    if (!next.ok()) {
      number = next.error().number;
    } else {
      sockets.push_back(std::move(next.value()));
    }
  }
  return number;
}

void leave_one_udp_socket(std::vector<OwnedFd>& sockets) {
  sockets.resize(1);
  (void)set_reuse_port(sockets[0].get(), 0);
}

Result<OwnedFd> open_send_socket(uint32_t address, int buffer_bytes) {
  return open_bound(address, 0, buffer_bytes, Use::kSendOnly);
}

int ignore_path_mtu(int fd) {
  for (const int how : {IP_PMTUDISC_OMIT, IP_PMTUDISC_INTERFACE})
    if (::setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &how, sizeof(how)) == 0) return 0;
  return errno;
}

Result<OwnedFd> open_echo_socket(uint16_t identifier) {
  OwnedFd fd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP));
  if (!fd.valid()) return Error{errno, "socket ICMP", ""};
  // X: length of the IP header, which a raw socket receives too.
  sock_filter code[] = {
      BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, 0),
      BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, icmp::kEchoReply, 0, 3),
      BPF_STMT(BPF_LD | BPF_H | BPF_IND, icmp::kId),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, identifier, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, ip::kPacketMax),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0)
    return Error{errno, "setsockopt SO_ATTACH_FILTER", ""};
  return fd;
}

int check_udp_gso(int fd) {
  int size = 0;
  socklen_t length = sizeof(size);
  return ::getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, &length) < 0 ? errno : 0;
}

int enable_udp_gro(int fd) {
  if (kernel_version() < kSafeGroVersion) return EOPNOTSUPP;
  const int on = 1;
  return ::setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)) < 0 ? errno : 0;
}

bool has_udp_gro(int fd) {
  int on = 0;
  socklen_t length = sizeof(on);
  return ::getsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, &length) == 0 && on != 0;
}

void disable_udp_gro(int fd) {
  const int off = 0;
  (void)::setsockopt(fd, IPPROTO_UDP, UDP_GRO, &off, sizeof(off));
}

SocketBuffers socket_buffers(int fd) {
  SocketBuffers out;
  socklen_t length = sizeof(int);
  (void)::getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &out.receive_bytes, &length);
  length = sizeof(int);
  (void)::getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &out.send_bytes, &length);
  return out;
}

std::optional<uint64_t> socket_drops(int fd) {
  std::array<uint32_t, SK_MEMINFO_VARS> values{};
  socklen_t length = sizeof(values);
  if (::getsockopt(fd, SOL_SOCKET, SO_MEMINFO, values.data(), &length) < 0 ||
      length <= SK_MEMINFO_DROPS * sizeof(uint32_t))
    return std::nullopt;
  return values[SK_MEMINFO_DROPS];
}

Result<OwnedFd> open_raw_socket() {
  OwnedFd fd(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW));
  if (!fd.valid()) return Error{errno, "socket RAW", ""};
  const int probe = IP_PMTUDISC_PROBE;
  (void)::setsockopt(fd.get(), IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof(probe));
  return fd;
}

}  // namespace flannelette
