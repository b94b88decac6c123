#include "sys/scheduling.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

namespace flannelette {

namespace {

// struct sched_attr of linux/sched/types.h, first version; glibc has it from 2.41 only.
struct Attributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime_ns;
  uint64_t deadline_ns;
  uint64_t period_ns;
};

// The least the kernel grants; the default is some milliseconds.
constexpr uint64_t kTurnNs = 100'000;

}  // namespace

int ask_for_short_turns() {
  Attributes attributes{};
  if (::syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) < 0) return errno;
  if (attributes.policy != SCHED_OTHER) return 0;
  attributes.size = sizeof(attributes);
  attributes.runtime_ns = kTurnNs;
  return ::syscall(SYS_sched_setattr, 0, &attributes, 0) < 0 ? errno : 0;
}

}  // namespace flannelette
