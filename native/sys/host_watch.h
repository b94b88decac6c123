// Tells when links, IPv4 addresses, routes or rules of this network namespace change (the multicast
// groups of rtnetlink(7)), so that nothing has to look again and again.
#pragma once

#include "core/result.h"

namespace flannelette {

// A descriptor of which a byte can be read after changes: one for all that came within kRestMs.
// What changed has to be looked up. A thread serves it until it is closed.
Result<int> watch_host();

}  // namespace flannelette
