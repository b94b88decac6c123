// The end of a process that must not depend on what hangs in it: a blocked event loop, a thread in
// a system call that does not return, a pool that exit(3) would join.
//
// A thread of its own waits for a deadline and ends the process by _exit(2): the kernel then takes
// away what the process held, as after SIGKILL. For the process of a program, never in a library:
// it is one for the whole process and stays until the end.
#pragma once

#include <span>
#include <string>

#include "core/result.h"

namespace flannelette {

// How and when signals end the process.
struct SignalLimits {
  int first_ms = 0;   // after the first of the signals
  int second_ms = 0;  // after another one, if that is sooner
  int code = 1;
  std::string message;  // a line for standard error; empty: none
};

// Sets a deadline when one of the signals comes, beside the handler it has now. Those
// handlers must be there already: for a signal without one this would be the only one. Called again
// it changes the limits for signals to come.
Status guard_signals(std::span<const int> signals, const SignalLimits& limits);

// Ends the process with `code` in `ms` milliseconds unless it has ended by then, whatever deadline
// there was before.
Status exit_within(int ms, int code);

}  // namespace flannelette
