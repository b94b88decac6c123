// What this kernel offers a user-space tunnel. Each feature is tried on a real descriptor, in a
// network namespace made for it: a version test alone would believe backports and vendors.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace flannelette {

// Whether the kernel has a feature. A refusal for want of privilege, descriptors or memory says
// nothing about the kernel: the feature was not tried.
enum class Presence { kYes, kNo, kUntried };

struct Feature {
  const char* name;
  const char* since;  // the mainline kernel that brought it
  Presence presence = Presence::kUntried;
  std::string detail = {};  // how it was found out, or why not
};

// What the errno of a call that needs the feature says; 0 for success.
Presence presence_after(int error);

// `yes`, `no` or `untried`.
const char* presence_name(Presence presence);

// Runs on a thread of its own; the caller's namespace and interfaces are not touched. Fails where
// no thread can be had.
Result<std::vector<Feature>> probe_features();

}  // namespace flannelette
