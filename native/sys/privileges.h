// Taking privileges away: from one thread, from every thread of the process, and from the process
// by running its program again.
//
// Capabilities and no_new_privs belong to a thread, and Node has five before its first line of
// JavaScript runs. The C libraries change what belongs to all of a process's threads by a signal of
// their own, which no thread can block by pthread_sigmask; drop_privileges does the same. Where
// that is refused execve(2) remains: the new program starts with one thread, and every thread it
// makes inherits what that one has.
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

struct FewerPrivileges {
  CapabilitySet keep = 0;                // of these what there is
  bool unlimited_locked_memory = false;  // RLIMIT_MEMLOCK, which takes CAP_SYS_RESOURCE to raise
};

// Gives every thread of this process no_new_privs, a bounding set of `keep` (where CAP_SETPCAP
// allows), and no other capability, for root and others. Takes a millisecond, half a second
// at most (ETIMEDOUT). After an Error this thread has what it had, others may have lost it. To be
// called by one thread, once.
//
// no_new_privs is what makes it hold for root without CAP_SETPCAP: what execve would give root
// anew is cut to what it had (cap_bprm_creds_from_file in security/commoncap.c).
Status drop_privileges(const FewerPrivileges& fewer);

struct Restart {
  std::string path;
  std::vector<std::string> arguments;    // the first is the program's name for itself
  std::vector<std::string> environment;  // NAME=VALUE
  FewerPrivileges privileges;            // of the new program, as drop_privileges has them
  int descriptors = 3;                   // 0 to this one are handed on, all others as they are set
};

// Runs another program in this process with fewer privileges. Returns only when that was refused,
// with an Error; this thread may have lost capabilities then.
Error restart_with_less(const Restart& restart);

}  // namespace flannelette
