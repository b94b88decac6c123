#include "sys/kernel.h"

#include <sys/utsname.h>

#include <cstdio>

namespace flannelette {

int kernel_version() {
  utsname name{};
  int major = 0;
  int minor = 0;
  if (::uname(&name) < 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2) return 0;
  return major * 1000 + minor;
}

}  // namespace flannelette
