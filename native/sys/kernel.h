// What headers older than the kernel may lack, and the version of the kernel that runs.
#pragma once

#include <linux/if_tun.h>
#include <linux/udp.h>

// Linux 6.2.
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
// Linux 4.18 and 5.0.
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

namespace flannelette {

// Major and minor of the running kernel as major * 1000 + minor; 0 when it cannot be told.
int kernel_version();

// UDP_GRO is accepted from 5.0 on, but loses packets before this.
inline constexpr int kSafeGroVersion = 5012;

}  // namespace flannelette
