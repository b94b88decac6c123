// What a crossing is compared with: a system call that does nothing, copies in user space, and
// waking another thread.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace flannelette::bench {

struct Reference {
  std::string name;
  size_t bytes;  // 0: none are moved
  size_t calls;  // a measurement makes
  // Nanoseconds of one call, the mean of a measurement.
  std::function<double()> measure;
};

// `cpu` is the one the calling thread is pinned to, `other` another one; the same when there is
// none.
std::vector<Reference> make_references(unsigned cpu, unsigned other);

}  // namespace flannelette::bench
