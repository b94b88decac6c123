// Words to the service manager that started this process: the datagram of sd_notify(3), without
// libsystemd.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/result.h"

namespace flannelette {

// Sends `message` (lines NAME=VALUE) as one datagram to `socket_path`, the value of NOTIFY_SOCKET:
// an absolute path, or `@name` in the abstract namespace (unix(7)). Never waits and raises no
// SIGPIPE; nothing is sent in part. `descriptors`, at most kHandoverMax (sys/handover.h), go with
// it (SCM_RIGHTS) and stay the caller's.
//
// Errors: EAFNOSUPPORT for any other form of address (`vsock:` of systemd 254 among them), EINVAL
// for a NUL in it, ENAMETOOLONG past sun_path's 108 bytes (107 and a NUL for a path), EAGAIN when
// the manager's queue is full, ENOENT or ECONNREFUSED when no manager listens, EMSGSIZE.
Status notify(const std::string& socket_path, std::string_view message,
              std::span<const int> descriptors = {});

}  // namespace flannelette
