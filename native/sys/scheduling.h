// How the kernel's scheduler treats the calling thread.
#pragma once

namespace flannelette {

// Asks for short turns (sched_setattr with sched_runtime, Linux 6.12): a thread that sleeps most of
// the time is then let in at once when it wakes, in front of one that computes. Its share of the
// CPU stays the same. Earlier kernels take the request and ignore it. 0 or an errno, which matters
// to nobody: without it packets only wait longer on a busy machine.
int ask_for_short_turns();

}  // namespace flannelette
