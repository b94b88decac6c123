// Names of errno values: those errno(3) gives, also where libuv and older C libraries have none.
#include "sys/errno_name.h"

#include <doctest/doctest.h>
#include <features.h>

#include <cerrno>
#include <cstring>

namespace flannelette::test {

TEST_CASE("errno names: what TUN, sockets and netlink give") {
  CHECK(errno_name(EADDRINUSE) == "EADDRINUSE");
  CHECK(errno_name(EBADFD) == "EBADFD");
  CHECK(errno_name(EAGAIN) == "EAGAIN");
  CHECK(errno_name(EOPNOTSUPP) == "EOPNOTSUPP");
}

TEST_CASE("errno names: a number without a name stays a number") {
  for (const int number : {-1, 0, 41, 58, 134, 4095})
    CHECK(errno_name(number) == std::to_string(number));
}

#ifdef __GLIBC__
#if __GLIBC_PREREQ(2, 32)
TEST_CASE("errno names: all that the C library knows") {
  for (int number = 1; number < 200; ++number) {
    const char* name = ::strerrorname_np(number);
    CHECK(errno_name(number) == (name == nullptr ? std::to_string(number) : name));
  }
}
#endif
#endif

}  // namespace flannelette::test
