#include "sys/name_lock.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace flannelette {

Result<OwnedFd> hold_name(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  // The first byte stays 0: an abstract name.
  if (name.empty() || name.size() >= sizeof(address.sun_path)) return Error{EINVAL, "name", name};
  std::memcpy(address.sun_path + 1, name.data(), name.size());
  OwnedFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return Error{errno, "socket UNIX", ""};
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), length) < 0)
    return Error{errno, "bind", name};
  return fd;
}

}  // namespace flannelette
