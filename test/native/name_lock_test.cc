// Names that one process of a network namespace has at a time.
#include "sys/name_lock.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <string>
#include <utility>

#include "sys/owned_fd.h"

namespace flannelette::test {

TEST_CASE("a name is held by one at a time, and let go with its descriptor") {
  const std::string name = "flannelette/test-of-names";
  auto first = hold_name(name);
  REQUIRE(first.ok());
  auto second = hold_name(name);
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().number == EADDRINUSE);
  CHECK(hold_name(name + "-other").ok());
  { const OwnedFd closed = std::move(first.value()); }
  CHECK(hold_name(name).ok());
}

TEST_CASE("a name that is none or too long is refused") {
  for (const std::string& name : {std::string(), std::string(108, 'x')}) {
    auto held = hold_name(name);
    REQUIRE_FALSE(held.ok());
    CHECK(held.error().number == EINVAL);
  }
  CHECK(hold_name(std::string(107, 'x')).ok());
}

}  // namespace flannelette::test
