#include "sys/exit_guard.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <ctime>

#include "sys/io.h"
#include "sys/scheduling.h"

namespace flannelette {

namespace {

constexpr uint64_t kMs = 1'000'000;
// What writing the last line may take before a signal ends the process instead.
constexpr long kMessageUs = 50'000;

// One for the process. Written by the control thread and by signal handlers, read by the guard's
// thread; nothing of it is ever freed, because that thread outlives exit handlers.
struct Guard {
  int wake = -1;                          // eventfd
  std::atomic<uint64_t> signalled_ns{0};  // deadline that signals set; 0: none
  // Deadline that exit_within set, in milliseconds, and the code in the low byte; 0: none.
  std::atomic<uint64_t> planned{0};
  std::atomic<unsigned> signals{0};
  std::atomic<const SignalLimits*> limits{nullptr};
  std::array<struct sigaction, NSIG> before{};
  std::array<bool, NSIG> guarded{};
};

Guard& guard() {
  static Guard* const only = new Guard;
  return *only;
}

void wake() {
  const int saved = errno;
  (void)::eventfd_write(guard().wake, 1);
  errno = saved;
}

// Async-signal-safe.
void on_signal(int number, siginfo_t* info, void* context) {
  Guard& state = guard();
  const bool first = state.signals.fetch_add(1) == 0;
  const SignalLimits* limits = state.limits.load();
  const int ms = first ? limits->first_ms : limits->second_ms;
  const uint64_t deadline = monotonic_ns() + static_cast<uint64_t>(ms) * kMs;
  uint64_t known = state.signalled_ns.load();
  while ((known == 0 || deadline < known) &&
         !state.signalled_ns.compare_exchange_weak(known, deadline)) {
  }
  wake();
  const struct sigaction& before = state.before[static_cast<size_t>(number)];
  if ((before.sa_flags & SA_SIGINFO) != 0) {
    before.sa_sigaction(number, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(number);
  }
}

[[noreturn]] void end_process(int code, const std::string& message) {
  if (!message.empty()) {
    // A terminal, pipe or file that takes nothing must not keep the process either.
    ::signal(SIGALRM, SIG_DFL);
    sigset_t alarm;
    ::sigemptyset(&alarm);
    ::sigaddset(&alarm, SIGALRM);
    ::pthread_sigmask(SIG_UNBLOCK, &alarm, nullptr);
    itimerval time = {{0, 0}, {0, kMessageUs}};
    ::setitimer(ITIMER_REAL, &time, nullptr);
    (void)!::write(STDERR_FILENO, message.data(), message.size());
    time = {};
    ::setitimer(ITIMER_REAL, &time, nullptr);
  }
  ::_exit(code);
}

// Ends the process if its time is over; else how long it has, in milliseconds (negative: no limit).
int check_deadlines() {
  Guard& state = guard();
  const uint64_t now = monotonic_ns();
  uint64_t deadline = state.signalled_ns.load();
  const uint64_t planned = state.planned.load();
  if (planned != 0) deadline = (planned >> 8) * kMs;
  if (deadline == 0) return -1;
  if (now < deadline) return static_cast<int>(std::min<uint64_t>((deadline - now) / kMs + 1, 1000));
  if (planned != 0) end_process(static_cast<int>(planned & 0xff), "");
  const SignalLimits* limits = state.limits.load();
  end_process(limits->code, limits->message);
}

void* watch(void* /*unused*/) {
  for (;;) {
    const int left_ms = check_deadlines();
    pollfd fd = {guard().wake, POLLIN, 0};
    if (::poll(&fd, 1, left_ms) < 0) kernel_io().sleep_ms(1);
    eventfd_t seen = 0;
    (void)::eventfd_read(guard().wake, &seen);
  }
}

// Once in a process.
Status start() {
  Guard& state = guard();
  if (state.wake >= 0) return std::nullopt;
  state.wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (state.wake < 0) return Error{errno, "eventfd", ""};
  pthread_t thread{};
  if (auto error = start_thread(thread, "exit-guard", -1, watch, nullptr)) {
    ::close(state.wake);
    state.wake = -1;
    return error;
  }
  ::pthread_detach(thread);
  return std::nullopt;
}

}  // namespace

Status guard_signals(std::span<const int> signals, const SignalLimits& limits) {
  Guard& state = guard();
  if (auto error = start()) return error;
  auto* mine = new SignalLimits(limits);
  if (!mine->message.empty()) mine->message += "\n";
  // The ones before are never freed: a handler may be at them.
  state.limits.store(mine);
  for (const int number : signals) {
    const auto at = static_cast<size_t>(number);
    if (state.guarded[at]) continue;
    struct sigaction& before = state.before[at];
    if (::sigaction(number, nullptr, &before) < 0) return Error{errno, "sigaction", ""};
    struct sigaction ours {};
    ours.sa_sigaction = on_signal;
    ours.sa_flags = before.sa_flags | SA_SIGINFO | SA_RESTART;
    ours.sa_mask = before.sa_mask;
    if (::sigaction(number, &ours, nullptr) < 0) return Error{errno, "sigaction", ""};
    state.guarded[at] = true;
  }
  return std::nullopt;
}

Status exit_within(int ms, int code) {
  if (auto error = start()) return error;
  const uint64_t deadline_ms = monotonic_ns() / kMs + static_cast<uint64_t>(ms) + 1;
  guard().planned.store(deadline_ms << 8 | static_cast<uint64_t>(code & 0xff));
  wake();
  return std::nullopt;
}

}  // namespace flannelette
