#include "sys/scheduling.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
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

Result<std::vector<unsigned>> usable_cpus() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof(set), &set) < 0) return Error{errno, "sched_getaffinity", ""};
  std::vector<unsigned> cpus;
  for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  return cpus;
}

Status start_thread(pthread_t& thread, const std::string& name, int cpu, void* (*work)(void*),
                    void* argument) {
  // A thread inherits its creator's CPUs: musl has no pthread_attr_setaffinity_np.
  cpu_set_t own;
  if (cpu >= 0) {
    if (::sched_getaffinity(0, sizeof(own), &own) < 0)
      return Error{errno, "sched_getaffinity", name};
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(cpu), &set);
    // Fails with EINVAL when the CPU is not there: the thread has not run then.
    if (::sched_setaffinity(0, sizeof(set), &set) < 0)
      return Error{errno, "sched_setaffinity", name + " on CPU " + std::to_string(cpu)};
  }
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const int number = ::pthread_create(&thread, nullptr, work, argument);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (cpu >= 0) ::sched_setaffinity(0, sizeof(own), &own);
  if (number != 0) return Error{number, "pthread_create", name};
  ::pthread_setname_np(thread, name.substr(0, 15).c_str());
  return std::nullopt;
}

}  // namespace flannelette
