#include "sys/notify.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "sys/owned_fd.h"
#include "sys/retry.h"

namespace flannelette {

namespace {

struct Pipe {
  OwnedFd read;
  OwnedFd write;
};

Result<Pipe> open_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) return Error{errno, "pipe2", ""};
  return Pipe{OwnedFd(ends[0]), OwnedFd(ends[1])};
}

// Whether nobody has the write end any more, `ms` from now at the latest.
bool hangs_up(const OwnedFd& read_end, int ms) {
  pollfd end = {read_end.get(), 0, 0};
  return retry_interrupted([&] { return ::poll(&end, 1, ms); }) > 0;
}

// Sends the only write end of a pipe; its read end.
Result<OwnedFd> send_pipe(const std::string& socket_path, std::string_view message) {
  auto pipe = open_pipe();
  if (!pipe.ok()) return std::move(pipe.error());
  const int end = pipe.value().write.get();
  if (auto error = notify(socket_path, message, {&end, 1})) return std::move(*error);
  return std::move(pipe.value().read);
}

}  // namespace

Status notify_barrier(const std::string& socket_path, int ms) {
  auto waiting = send_pipe(socket_path, "BARRIER=1");
  if (!waiting.ok()) return std::move(waiting.error());
  if (hangs_up(waiting.value(), ms)) return std::nullopt;
  return Error{ETIMEDOUT, "BARRIER", socket_path};
}

Result<DescriptorStore> probe_descriptor_store(const std::string& socket_path, int ms) {
  auto stored = send_pipe(socket_path, "FDSTORE=1\nFDNAME=flannelette-probe");
  if (!stored.ok()) return std::move(stored.error());
  if (auto error = notify_barrier(socket_path, ms)) return std::move(*error);
  if (hangs_up(stored.value(), 0)) return DescriptorStore::kNone;
  if (auto error = notify(socket_path, "FDSTOREREMOVE=1\nFDNAME=flannelette-probe"))
    return std::move(*error);
  if (hangs_up(stored.value(), ms)) return DescriptorStore::kUsable;
  // With the read end gone the other one is in error, and the manager drops it.
  return DescriptorStore::kNoReturn;
}

Status notify(const std::string& socket_path, std::string_view message,
              std::span<const int> descriptors) {
  const bool abstract = socket_path.starts_with('@');
  if (!abstract && !socket_path.starts_with('/'))
    return Error{EAFNOSUPPORT, "NOTIFY_SOCKET", socket_path};
  if (socket_path.find('\0') != std::string::npos)
    return Error{EINVAL, "NOTIFY_SOCKET", socket_path.c_str()};

  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  // A path ends with a NUL that the address includes; an abstract name is as long as it is.
  const size_t bytes = socket_path.size() + (abstract ? 0 : 1);
  if (bytes > sizeof(to.sun_path)) return Error{ENAMETOOLONG, "NOTIFY_SOCKET", socket_path};
  std::memcpy(to.sun_path, socket_path.data(), socket_path.size());
  if (abstract) to.sun_path[0] = '\0';

  const OwnedFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return Error{errno, "socket UNIX", ""};
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + bytes);
  iovec piece{const_cast<char*>(message.data()), message.size()};
  msghdr header{};
  header.msg_name = &to;
  header.msg_namelen = length;
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  std::vector<char> control(descriptors.empty() ? 0 : CMSG_SPACE(descriptors.size_bytes()));
  if (!descriptors.empty()) {
    header.msg_control = control.data();
    header.msg_controllen = control.size();
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  const auto send = [&] { return ::sendmsg(fd.get(), &header, MSG_NOSIGNAL); };
  if (retry_interrupted(send) < 0) return Error{errno, "sendmsg", socket_path};
  return std::nullopt;
}

}  // namespace flannelette
