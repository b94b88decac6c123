#include "sys/privileges.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <ctime>

#include "sys/io.h"

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
  // Fails when there is none of this number, or no CAP_SETPCAP.
  for (int capability = 0; capability < kCapabilitiesMax; ++capability)
    if (!has(keep, capability) && ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0) return;
}

// Users other than root keep capabilities over execve only as ambient ones (Linux 4.3).
void raise_ambient(CapabilitySet keep) {
  for (int capability = 0; capability < kCapabilitiesMax; ++capability)
    if (has(keep, capability))
      (void)::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0);
}

void raise_locked_memory_limit() {
  const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
  (void)::setrlimit(RLIMIT_MEMLOCK, &unlimited);
}

// Of this thread. Async-signal-safe.
Status keep_only(CapabilitySet keep) {
  CapabilityWords words{};
  if (const int number = get_capabilities(words)) return Error{number, "capget", ""};
  (void)set_no_new_privileges();
  shrink_bounding_set(keep);
  for (size_t i = 0; i < words.size(); ++i) {
    const uint32_t kept = words[i].permitted & static_cast<uint32_t>(keep >> (32 * i));
    words[i] = {kept, kept, kept};
  }
  if (const int number = set_capabilities(words)) return Error{number, "capset", ""};
  if (::geteuid() != 0) raise_ambient(keep);
  return {};
}

// The C libraries' own second signal: SIGSETXID of glibc, SIGCANCEL of musl, which Node does not
// use. Neither lets a thread block it, Node's inspector included, which blocks all it can.
constexpr int kEveryThread = 33;
constexpr size_t kThreadsMax = 256;
constexpr uint64_t kLimitNs = 500'000'000;
constexpr long kPauseNs = 100'000;

// One for the process: what the signal has each thread do, and who has done it.
struct Drop {
  std::atomic<CapabilitySet> keep{0};
  std::atomic<int> error{0};
  std::atomic<size_t> count{0};
  std::array<std::atomic<pid_t>, kThreadsMax> threads{};

  bool has(pid_t thread) const {
    const size_t known = std::min(count.load(), threads.size());
    return std::any_of(threads.begin(), threads.begin() + static_cast<std::ptrdiff_t>(known),
                       [thread](const auto& done) { return done.load() == thread; });
  }
};

Drop& drop() {
  static Drop only;
  return only;
}

pid_t own_thread() { return static_cast<pid_t>(::syscall(SYS_gettid)); }

void on_every_thread(int /*number*/) {
  const int saved = errno;
  Drop& state = drop();
  if (const Status refused = keep_only(state.keep.load())) state.error.store(refused->number);
  const size_t place = state.count.fetch_add(1);
  if (place < kThreadsMax) state.threads[place].store(own_thread());
  errno = saved;
}

// The kernel's struct sigaction, whose layout is each processor's own: it is only handed back.
struct KernelAction {
  alignas(std::max_align_t) std::array<std::byte, 256> bytes{};
};

int kernel_action(int number, const KernelAction* set, KernelAction* before) {
  constexpr size_t kSetBytes = 8;
  return ::syscall(SYS_rt_sigaction, number, set, before, kSetBytes) < 0 ? errno : 0;
}

// A handler as the C library would install it, way back included (SA_RESTORER): made for a signal
// that it allows, which is put back at once.
int make_handler(KernelAction& out) {
  struct sigaction handler {};
  struct sigaction before {};
  handler.sa_handler = on_every_thread;
  handler.sa_flags = SA_RESTART | SA_ONSTACK;
  ::sigfillset(&handler.sa_mask);
  if (::sigaction(SIGPWR, &handler, &before) < 0) return errno;
  const int number = kernel_action(SIGPWR, nullptr, &out);
  return ::sigaction(SIGPWR, &before, nullptr) < 0 ? errno : number;
}

Result<std::vector<pid_t>> threads_of_process() {
  DIR* directory = ::opendir("/proc/self/task");
  if (directory == nullptr) return Error{errno, "opendir", "/proc/self/task"};
  std::vector<pid_t> threads;
  while (const dirent* entry = ::readdir(directory))
    if (const int thread = std::atoi(entry->d_name)) threads.push_back(thread);
  ::closedir(directory);
  // Of another process namespace, where the numbers are others.
  if (std::find(threads.begin(), threads.end(), own_thread()) == threads.end())
    return Error{ESRCH, "readdir", "/proc/self/task"};
  return threads;
}

// Has all threads but this one run the handler, those included that they start meanwhile.
Status signal_every_thread() {
  const uint64_t limit = monotonic_ns() + kLimitNs;
  std::vector<pid_t> told{own_thread()};
  // Who is not on a list that was begun after the last one ran it, has inherited.
  for (int complete = 0; complete < 2;) {
    auto threads = threads_of_process();
    if (!threads.ok()) return threads.error();
    bool all = true;
    for (const pid_t thread : threads.value()) {
      if (thread == own_thread() || drop().has(thread)) continue;
      all = false;
      if (std::find(told.begin(), told.end(), thread) != told.end()) continue;
      if (::syscall(SYS_tgkill, ::getpid(), thread, kEveryThread) == 0)
        told.push_back(thread);
      else if (errno != ESRCH)
        return Error{errno, "tgkill", std::to_string(thread)};
    }
    complete = all ? complete + 1 : 0;
    if (all) continue;
    if (monotonic_ns() > limit) return Error{ETIMEDOUT, "tgkill", ""};
    const timespec pause{0, kPauseNs};
    (void)::nanosleep(&pause, nullptr);
  }
  const int refused = drop().error.load();
  return refused == 0 ? Status{} : Error{refused, "capset", ""};
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

Status drop_privileges(const FewerPrivileges& fewer) {
  if (fewer.unlimited_locked_memory) raise_locked_memory_limit();
  drop().keep.store(fewer.keep);
  KernelAction handler;
  KernelAction before;
  if (const int number = make_handler(handler)) return Error{number, "sigaction", ""};
  if (const int number = kernel_action(kEveryThread, &handler, &before))
    return Error{number, "rt_sigaction", std::to_string(kEveryThread)};
  // After an error a thread may still have the signal before it, and needs the handler.
  if (Status refused = signal_every_thread()) return refused;
  (void)kernel_action(kEveryThread, &before, nullptr);
  return keep_only(fewer.keep);
}

Error restart_with_less(const Restart& restart) {
  if (restart.privileges.unlimited_locked_memory) raise_locked_memory_limit();
  if (Status refused = keep_only(restart.privileges.keep)) return *refused;
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
