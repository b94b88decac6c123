// Names of errno values, as errno(3) gives them. glibc's strerrorname_np came with 2.32, and libuv
// lacks values that TUN and netlink give (EBADFD).
#pragma once

#include <string>

namespace flannelette {

// "ENOENT" for 2; the number as text when it has no name.
std::string errno_name(int number);

}  // namespace flannelette
