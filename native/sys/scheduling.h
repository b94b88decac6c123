// How the kernel's scheduler treats threads.
#pragma once

#include <pthread.h>

#include <string>
#include <vector>

#include "core/result.h"

namespace flannelette {

// Asks for short turns (sched_setattr with sched_runtime, Linux 6.12): a thread that sleeps most of
// the time is then let in at once when it wakes, in front of one that computes. Its share of the
// CPU stays the same. Earlier kernels take the request and ignore it. 0 or an errno, which
// callers may ignore: without it packets only wait longer on a busy machine.
int ask_for_short_turns();

// CPUs this process may run on (sched_getaffinity): those of its cpuset that are there.
Result<std::vector<unsigned>> usable_cpus();

// Starts a thread without signals, which belong to the process's main thread, and keeps it to one
// CPU when `cpu` is not negative. `name` is cut at 15 bytes.
Status start_thread(pthread_t& thread, const std::string& name, int cpu, void* (*work)(void*),
                    void* argument);

}  // namespace flannelette
