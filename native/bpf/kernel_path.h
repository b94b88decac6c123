// What the programs of kernel_path.c and their loader (native/sys/kernel_path.cc) agree on.
#ifndef FLANNELETTE_KERNEL_PATH_H
#define FLANNELETTE_KERNEL_PATH_H

#include <linux/types.h>

// Subnets of other hosts; flannel's networks have at most 65,536.
#define KERNEL_PATH_HOSTS_MAX 131072

// Between decapsulate and admit, which takes it away; any number that no other program gives
// packets.
#define KERNEL_PATH_MARK 0x0f1a02ed

enum {
  KERNEL_PATH_SENT_PACKETS,
  KERNEL_PATH_SENT_BYTES,
  KERNEL_PATH_TAKEN_PACKETS,  // by decapsulate
  KERNEL_PATH_RECEIVED_PACKETS,
  KERNEL_PATH_RECEIVED_BYTES,
  KERNEL_PATH_REFUSED_PACKETS,  // sent straight to the decapsulation device's port
  KERNEL_PATH_COUNTERS,
};

// Addresses, masks and ports big-endian.
struct kernel_path_settings {
  // CLOCK_MONOTONIC; set by the daemon again and again. A program that outlives its daemon, as
  // a clsact filter does, lets everything pass from then on.
  __u64 alive_until_ns;
  __u32 local;        // outer address of this host
  __u32 own_network;  // this host's subnet
  __u32 own_mask;
  __u32 underlay;  // index of the external interface
  __u32 tun;       // index of flannel0
  __u32 source_check;
  __u16 port;
  __u16 decapsulation_port;
};

// Value of an LPM trie: who holds a subnet.
struct kernel_path_host {
  __u32 address;  // big-endian
  __u32 mtu;      // bytes of the longest inner packet that reaches it whole; 0: any
};

// Key of an LPM trie.
struct kernel_path_subnet {
  __u32 prefix;
  __u32 network;  // big-endian
};

#endif
