#include "sys/bpf.h"

#include <linux/bpf.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace flannelette {

namespace {

// enum bpf_attach_type of Linux 6.6.
constexpr uint32_t kTcxIngress = 46;
constexpr uint32_t kTcxEgress = 47;

long call(int command, bpf_attr& attributes) {
  return ::syscall(SYS_bpf, command, &attributes, sizeof(attributes));
}

void set_name(char (&field)[BPF_OBJ_NAME_LEN], const char* name) {
  std::snprintf(field, sizeof(field), "%s", name);
}

uint64_t address_of(const void* data) { return reinterpret_cast<uint64_t>(data); }

// Makes a map or a program. Before Linux 5.11 both are counted as locked memory, and refused with
// EPERM beyond its limit, which is raised then.
Result<OwnedFd> make(int command, const char* operation, const char* name, bpf_attr& attributes) {
  OwnedFd fd(static_cast<int>(call(command, attributes)));
  if (!fd.valid() && errno == EPERM) {
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    (void)::setrlimit(RLIMIT_MEMLOCK, &unlimited);
    fd = OwnedFd(static_cast<int>(call(command, attributes)));
  }
  if (!fd.valid()) return Error{errno, operation, name};
  return fd;
}

}  // namespace

Result<OwnedFd> make_bpf_map(const char* name, const BpfMapSpec& spec) {
  bpf_attr attributes{};
  attributes.map_type = spec.type;
  attributes.key_size = spec.key_bytes;
  attributes.value_size = spec.value_bytes;
  attributes.max_entries = spec.entries_max;
  attributes.map_flags = spec.flags;
  set_name(attributes.map_name, name);
  return make(BPF_MAP_CREATE, "BPF_MAP_CREATE", name, attributes);
}

Status put_bpf_entry(const OwnedFd& map, const void* key, const void* value) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map.get());
  attributes.key = address_of(key);
  attributes.value = address_of(value);
  attributes.flags = BPF_ANY;
  if (call(BPF_MAP_UPDATE_ELEM, attributes) < 0) return Error{errno, "BPF_MAP_UPDATE_ELEM", ""};
  return std::nullopt;
}

Status delete_bpf_entry(const OwnedFd& map, const void* key) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map.get());
  attributes.key = address_of(key);
  if (call(BPF_MAP_DELETE_ELEM, attributes) < 0 && errno != ENOENT)
    return Error{errno, "BPF_MAP_DELETE_ELEM", ""};
  return std::nullopt;
}

Status read_bpf_entry(const OwnedFd& map, const void* key, void* value) {
  bpf_attr attributes{};
  attributes.map_fd = static_cast<uint32_t>(map.get());
  attributes.key = address_of(key);
  attributes.value = address_of(value);
  if (call(BPF_MAP_LOOKUP_ELEM, attributes) < 0) return Error{errno, "BPF_MAP_LOOKUP_ELEM", ""};
  return std::nullopt;
}

Result<size_t> possible_cpus() {
  constexpr const char* kPath = "/sys/devices/system/cpu/possible";
  std::FILE* file = std::fopen(kPath, "re");
  if (file == nullptr) return Error{errno, "open", kPath};
  // Ranges in ascending order, such as "0-3" or "0,2-3": the last number counts.
  size_t last = 0;
  size_t number = 0;
  bool found = false;
  for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
    if (c >= '0' && c <= '9') {
      number = number * 10 + static_cast<size_t>(c - '0');
      last = number;
      found = true;
    } else {
      number = 0;
    }
  }
  std::fclose(file);
  if (!found) return Error{EINVAL, "read", kPath};
  return last + 1;
}

Result<OwnedFd> load_bpf_program(const char* name, std::span<const uint64_t> instructions) {
  static constexpr char kLicence[] = "Apache-2.0";
  bpf_attr attributes{};
  attributes.prog_type = BPF_PROG_TYPE_SCHED_CLS;
  attributes.insns = address_of(instructions.data());
  attributes.insn_cnt = static_cast<uint32_t>(instructions.size());
  attributes.license = address_of(kLicence);
  // A kernel that is not built for a certain processor (user-mode Linux) is strict without it.
  // The processors that there are binaries for all read words at any address.
  attributes.prog_flags = BPF_F_ANY_ALIGNMENT;
  set_name(attributes.prog_name, name);
  return make(BPF_PROG_LOAD, "BPF_PROG_LOAD", name, attributes);
}

Result<OwnedFd> attach_tcx(const OwnedFd& program, int ifindex, ProgramPoint point) {
  bpf_attr attributes{};
  attributes.link_create.prog_fd = static_cast<uint32_t>(program.get());
  attributes.link_create.target_ifindex = static_cast<uint32_t>(ifindex);
  attributes.link_create.attach_type = point == ProgramPoint::kIngress ? kTcxIngress : kTcxEgress;
  OwnedFd fd(static_cast<int>(call(BPF_LINK_CREATE, attributes)));
  if (fd.valid()) return fd;
  return Error{errno, "BPF_LINK_CREATE", point == ProgramPoint::kIngress ? "ingress" : "egress"};
}

void detach_tcx(OwnedFd& link) {
  if (!link.valid()) return;
  bpf_attr attributes{};
  attributes.link_detach.link_fd = static_cast<uint32_t>(link.get());
  (void)call(BPF_LINK_DETACH, attributes);
  link.reset();
}

}  // namespace flannelette
