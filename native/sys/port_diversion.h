// Datagrams to one UDP port of this host arrive at another, so that the port is free for another
// program while what is sent to it still has a reader.
//
//   INPUT, behind all filters: UDP to local:port -> destination port := other
//
// By nf_tables, which can write into packets from Linux 4.5 on. Filters, connection tracking and
// the sender see the port that was sent to. From Linux 5.12 on it ends with the process, also when
// that is killed; before, it stays until the next one that has the port takes it away.
#pragma once

#include <cstdint>

#include "core/result.h"
#include "sys/owned_fd.h"

namespace flannelette {

// Replaces a former one of that port. `local` 0: every address. To be closed and removed; before
// Linux 5.12 it is no descriptor.
Result<OwnedFd> put_port_diversion(uint32_t local, uint16_t port, uint16_t other);
// Takes one away that belongs to nobody, if it is there.
Status remove_port_diversion(uint32_t local, uint16_t port);

}  // namespace flannelette
