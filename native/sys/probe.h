// What this kernel offers a user-space tunnel. Each feature is tried on a real descriptor, in a
// network namespace made for it: a version test alone would believe backports and vendors.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace flannelette {

struct Feature {
  const char* name;
  const char* since;  // the mainline kernel that brought it
  bool available = false;
  std::string detail = {};  // how it was found out, or why not
};

// Runs on a thread of its own; the caller's namespace and interfaces are not touched. Fails where
// no thread can be had.
Result<std::vector<Feature>> probe_features();

}  // namespace flannelette
