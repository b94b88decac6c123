// A process that a thread ends although everything else in it hangs. Each case is a process of its
// own.
#include "sys/exit_guard.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <functional>

#include "sys/owned_fd.h"

namespace flannelette::test {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

struct End {
  int status = 0;  // of waitpid
  milliseconds took{0};
  std::string said;
};

volatile std::sig_atomic_t handled = 0;
void count(int) { handled = handled + 1; }

// Runs `work` in a child, calls `meanwhile` with its id once it said so by `ready`, and waits.
End run(
    const std::function<void()>& work, const std::function<void(pid_t)>& meanwhile = [](pid_t) {}) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    ::signal(SIGTERM, count);
    work();
    for (;;) ::pause();
  }
  ::close(ends[1]);
  const OwnedFd said(ends[0]);
  End out;
  char byte = 0;
  REQUIRE(::read(said.get(), &byte, 1) == 1);
  const auto start = steady_clock::now();
  meanwhile(child);
  while (::read(said.get(), &byte, 1) == 1) out.said += byte;
  REQUIRE(::waitpid(child, &out.status, 0) == child);
  out.took = std::chrono::duration_cast<milliseconds>(steady_clock::now() - start);
  return out;
}

void ready() { (void)!::write(STDERR_FILENO, ".", 1); }

// Hangs as nothing that runs JavaScript or handlers of exit could end it.
[[noreturn]] void hang() {
  for (;;) ::usleep(1'000'000);
}

constexpr int kTerm[] = {SIGTERM};

void guard(int first_ms, int second_ms) {
  if (guard_signals(kTerm, {first_ms, second_ms, 7, "gave up"}).has_value()) ::_exit(99);
}

int code(const End& end) { return WIFEXITED(end.status) ? WEXITSTATUS(end.status) : -1; }

}  // namespace

TEST_CASE("exit guard: a process that hangs ends after the first signal, with a line") {
  const End end = run(
      [] {
        guard(200, 50);
        ready();
        hang();
      },
      [](pid_t child) { ::kill(child, SIGTERM); });
  CHECK(code(end) == 7);
  CHECK(end.said == "gave up\n");
  CHECK(end.took >= milliseconds(200));
  CHECK(end.took < milliseconds(1500));
}

TEST_CASE("exit guard: a second signal makes it sooner") {
  const End end = run(
      [] {
        guard(60'000, 50);
        ready();
        hang();
      },
      [](pid_t child) {
        ::kill(child, SIGTERM);
        // Two at the same moment may be one to the kernel.
        ::usleep(100'000);
        ::kill(child, SIGTERM);
      });
  CHECK(code(end) == 7);
  CHECK(end.took < milliseconds(5'000));
}

TEST_CASE("exit guard: the handler that was there still runs") {
  const End end = run(
      [] {
        guard(60'000, 60'000);
        ready();
        while (handled == 0) ::usleep(1000);
        ::_exit(3);
      },
      [](pid_t child) { ::kill(child, SIGTERM); });
  CHECK(code(end) == 3);
  CHECK(end.said.empty());
}

TEST_CASE("exit guard: a planned end replaces the deadline of the signal") {
  const End end = run([] {
    guard(100, 100);
    ::raise(SIGTERM);
    if (exit_within(300, 0).has_value()) ::_exit(99);
    ready();
    hang();
  });
  CHECK(code(end) == 0);
  CHECK(end.said.empty());
  CHECK(end.took >= milliseconds(250));
}

TEST_CASE("exit guard: a line nobody takes does not keep the process") {
  const End end = run([] {
    guard(50, 50);
    int ends[2];
    if (::pipe(ends) != 0) ::_exit(99);
    // Full, and blocking.
    ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
    char page[4096] = {};
    while (::write(ends[1], page, sizeof(page)) > 0) {
    }
    while (::write(ends[1], page, 1) > 0) {
    }
    ::fcntl(ends[1], F_SETFL, 0);
    ready();
    ::dup2(ends[1], STDERR_FILENO);
    ::raise(SIGTERM);
    hang();
  });
  CHECK(WIFSIGNALED(end.status));
  CHECK(end.took < milliseconds(2000));
}

TEST_CASE("exit guard: without a signal or a plan nothing ends") {
  const End end = run([] {
    guard(1, 1);
    ready();
    ::usleep(300'000);
    ::_exit(5);
  });
  CHECK(code(end) == 5);
}

TEST_CASE("exit guard: new limits count for signals to come, and the handler still runs once") {
  const End end = run(
      [] {
        guard(60'000, 60'000);
        guard(100, 100);
        if (guard_signals(kTerm, {200, 200, 8, ""}).has_value()) ::_exit(99);
        ready();
        while (handled == 0) ::usleep(1000);
        ::usleep(50'000);
        if (handled != 1) ::_exit(98);
        hang();
      },
      [](pid_t child) { ::kill(child, SIGTERM); });
  CHECK(code(end) == 8);
  CHECK(end.said.empty());
}

}  // namespace flannelette::test
