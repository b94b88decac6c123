#include "sys/handover.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "sys/retry.h"

namespace flannelette {

namespace {

constexpr size_t kMessageMax = 4096;

void take_descriptors(const cmsghdr& control, std::vector<OwnedFd>& out) {
  if (control.cmsg_level != SOL_SOCKET || control.cmsg_type != SCM_RIGHTS) return;
  const size_t count = (control.cmsg_len - CMSG_LEN(0)) / sizeof(int);
  for (size_t i = 0; i < count; ++i) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(&control) + i * sizeof(int), sizeof(fd));
    out.emplace_back(fd);
  }
}

}  // namespace

Result<OwnedFd> open_handover(const std::string& path) {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  if (path.size() >= sizeof(at.sun_path)) return Error{ENAMETOOLONG, "bind", path};
  std::memcpy(at.sun_path, path.data(), path.size());
  OwnedFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Error{errno, "socket UNIX", ""};
  struct stat found {};
  if (::lstat(path.c_str(), &found) == 0 && S_ISSOCK(found.st_mode)) (void)::unlink(path.c_str());
  // The mode of the socket's file, before anybody can connect to it.
  (void)::fchmod(fd.get(), S_IRUSR | S_IWUSR);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) < 0)
    return Error{errno, "bind", path};
  return fd;
}

int keep_private(int fd) {
  const int status = ::fcntl(fd, F_GETFL);
  if (status < 0 || ::fcntl(fd, F_SETFL, status | O_NONBLOCK) < 0) return errno;
  return ::fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? errno : 0;
}

Result<Handover> receive_handover(int fd) {
  std::array<char, kMessageMax> text{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kHandoverMax * sizeof(int))> control{};
  iovec piece{text.data(), text.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t received =
      retry_interrupted([&] { return ::recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT); });
  if (received < 0) return Error{errno, "recvmsg", ""};
  Handover out;
  for (const cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr;
       part = CMSG_NXTHDR(&message, const_cast<cmsghdr*>(part)))
    take_descriptors(*part, out.descriptors);
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) return Error{EMSGSIZE, "recvmsg", ""};
  out.message.assign(text.data(), static_cast<size_t>(received));
  return out;
}

}  // namespace flannelette
