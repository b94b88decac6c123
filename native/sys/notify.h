// Words to the service manager that started this process: the datagram of sd_notify(3), without
// libsystemd.
#pragma once

#include <cstdint>
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

// Waits until the manager has dealt with all that was sent before (BARRIER=1, systemd 246; older
// ones close the descriptor that goes with it as well): ETIMEDOUT after `ms`, else as notify.
Status notify_barrier(const std::string& socket_path, int ms);

// What the manager does with descriptors it is sent (FDSTORE=1).
enum class DescriptorStore : uint8_t {
  kNone,      // closes them
  kNoReturn,  // keeps them, and does not let go when asked to: systemd before 236
  kUsable,
};

// Tries it with a pipe; `ms` bounds each of two waits. Errors as notify_barrier.
Result<DescriptorStore> probe_descriptor_store(const std::string& socket_path, int ms);

}  // namespace flannelette
