// Taking privileges away: from one thread, and from the process by running its program again.
//
// Capabilities and no_new_privs belong to a thread. A process that has threads (Node has five
// before its first line of JavaScript runs, and no way to reach the one of its inspector, which
// blocks all signals) drops them for all only by execve(2): the new program starts with one thread,
// and every thread it makes inherits what that one has.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"

namespace flannelette {

// A bit for each number of linux/capability.h.
using CapabilitySet = uint64_t;

// Leaves this thread without any capability, and without a way to gain one by execve
// (no_new_privs, Linux 3.5). What it has open stays usable. 0, or the errno.
int drop_all_capabilities();

struct Restart {
  std::string path;
  std::vector<std::string> arguments;    // the first is the program's name for itself
  std::vector<std::string> environment;  // NAME=VALUE
  CapabilitySet keep = 0;                // the new program has of these what this one has
  int descriptors = 3;                   // 0 to this one are handed on, all others as they are set
  bool unlimited_locked_memory = false;  // RLIMIT_MEMLOCK, which takes CAP_SYS_RESOURCE to raise
};

// Runs another program in this process with fewer privileges: no_new_privs, a bounding set of
// `keep` (where CAP_SETPCAP allows), and no other capability, for root and others. Returns only
// when that was refused, with an Error; this thread may have lost capabilities then.
//
// no_new_privs is what makes it hold for root without CAP_SETPCAP: what execve would give root
// anew is cut to what it had (cap_bprm_creds_from_file in security/commoncap.c).
Error restart_with_less(const Restart& restart);

}  // namespace flannelette
