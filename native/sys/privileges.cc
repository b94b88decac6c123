#include "sys/privileges.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

namespace flannelette {

namespace {

// Version 3 (Linux 2.6.26) has two words for each set.
using CapabilityWords = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

constexpr int kCapabilitiesMax = 64;

// The C library has no wrapper for either call. Of the calling thread.
int get_capabilities(CapabilityWords& out) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capget, &header, out.data()) < 0 ? errno : 0;
}

int set_capabilities(const CapabilityWords& words) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capset, &header, words.data()) < 0 ? errno : 0;
}

// EINVAL before Linux 3.5.
int set_no_new_privileges() { return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? errno : 0; }

bool has(CapabilitySet set, int capability) { return (set >> capability & 1) != 0; }

void shrink_bounding_set(CapabilitySet keep) {
  for (int capability = 0; capability < kCapabilitiesMax; ++capability) {
    // Negative: the kernel has none of this number.
    if (::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) < 0) return;
    if (!has(keep, capability)) (void)::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
}

// Users other than root keep capabilities over execve only as ambient ones (Linux 4.3).
void raise_ambient(CapabilitySet keep) {
  for (int capability = 0; capability < kCapabilitiesMax; ++capability)
    if (has(keep, capability))
      (void)::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
}

std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  out.reserve(texts.size() + 1);
  for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

// Signals that are nothing to the daemon would end the process until the program that is started
// has listeners. Blocked they wait, SIGUSR1 until Node unblocks it, the others for good.
void block_signals() {
  sigset_t blocked;
  ::sigemptyset(&blocked);
  for (const int number : {SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGIO, SIGPWR, SIGXFSZ})
    ::sigaddset(&blocked, number);
  (void)::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
}

}  // namespace

int drop_all_capabilities() {
  (void)set_no_new_privileges();
  return set_capabilities({});
}

Error restart_with_less(const Restart& restart) {
  if (restart.unlimited_locked_memory) {
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    (void)::setrlimit(RLIMIT_MEMLOCK, &unlimited);
  }
  CapabilityWords words{};
  if (const int number = get_capabilities(words)) return {number, "capget", ""};
  (void)set_no_new_privileges();
  shrink_bounding_set(restart.keep);
  for (size_t i = 0; i < words.size(); ++i) {
    const uint32_t kept = words[i].permitted & static_cast<uint32_t>(restart.keep >> (32 * i));
    words[i] = {kept, kept, kept};
  }
  if (const int number = set_capabilities(words)) return {number, "capset", ""};
  if (::geteuid() != 0) raise_ambient(restart.keep);
  for (int fd = 0; fd < restart.descriptors; ++fd) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags >= 0) (void)::fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC);
  }
  const std::vector<char*> arguments = pointers_to(restart.arguments);
  const std::vector<char*> environment = pointers_to(restart.environment);
  block_signals();
  ::execve(restart.path.c_str(), arguments.data(), environment.data());
  return {errno, "execve", restart.path};
}

}  // namespace flannelette
