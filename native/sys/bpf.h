// bpf(2), without a library: maps, programs of the scheduler's class, and tcx links, which the
// kernel takes away with the descriptor, however the process ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "core/result.h"
#include "sys/netlink.h"
#include "sys/owned_fd.h"

namespace flannelette {

struct BpfMapSpec {
  uint32_t type = 0;  // BPF_MAP_TYPE_*
  uint32_t key_bytes = 0;
  uint32_t value_bytes = 0;
  uint32_t entries_max = 0;
  uint32_t flags = 0;
};

Result<OwnedFd> make_bpf_map(const char* name, const BpfMapSpec& spec);
Status put_bpf_entry(const OwnedFd& map, const void* key, const void* value);
// Deletes the entry, if it is there.
Status delete_bpf_entry(const OwnedFd& map, const void* key);
// Reads the entry of an array into `value`; of a per-CPU array every possible CPU's one after
// another, each padded to 8 bytes.
Status read_bpf_entry(const OwnedFd& map, const void* key, void* value);
// How many CPUs a per-CPU entry has values of (/sys/devices/system/cpu/possible).
Result<size_t> possible_cpus();

// Loads instructions as BPF_PROG_TYPE_SCHED_CLS. EINVAL or EACCES: the kernel's verifier refuses;
// EPERM: not allowed (CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN before Linux 5.8).
Result<OwnedFd> load_bpf_program(const char* name, std::span<const uint64_t> instructions);

// Attaches the program behind those that are there (Linux 6.6). EINVAL: the kernel is older.
Result<OwnedFd> attach_tcx(const OwnedFd& program, int ifindex, ProgramPoint point);

// Ends an attachment whoever else has its descriptor too (Linux 5.9), and closes ours.
void detach_tcx(OwnedFd& link);

}  // namespace flannelette
