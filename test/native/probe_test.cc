// What an errno of a probe says about the kernel.
#include "sys/probe.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace flannelette::test {

TEST_CASE("a kernel without a feature says so by an errno of its own") {
  CHECK(presence_after(0) == Presence::kYes);
  for (const int absent : {ENOSYS, EINVAL, ENOPROTOOPT, EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT,
                           ENOTTY, ENODEV, ENXIO, ENOENT})
    CHECK_MESSAGE(presence_after(absent) == Presence::kNo, std::strerror(absent));
}

TEST_CASE("want of privilege, descriptors or memory says nothing about the kernel") {
  for (const int refusal :
       {EPERM, EACCES, EMFILE, ENFILE, ENOMEM, ENOBUFS, EBUSY, EAGAIN, EINTR, EIO, ENOSPC})
    CHECK_MESSAGE(presence_after(refusal) == Presence::kUntried, std::strerror(refusal));
}

TEST_CASE("presences have names") {
  CHECK(std::string(presence_name(Presence::kYes)) == "yes");
  CHECK(std::string(presence_name(Presence::kNo)) == "no");
  CHECK(std::string(presence_name(Presence::kUntried)) == "untried");
}

}  // namespace flannelette::test
