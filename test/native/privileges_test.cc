// Every thread of a process loses what is not kept, whatever it does and whatever it blocks.
//
// In a child process each, which ends with the number of the first thing that was not so.
#include "sys/privileges.h"

#include <doctest/doctest.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

// ThreadSanitizer keeps handlers of its own, of the signals that it knows.
#if !defined(__SANITIZE_THREAD__)

namespace flannelette::test {
namespace {

constexpr int kBlocking = 6;
constexpr int kUnblockable = 33;

uint64_t permitted() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> words{};
  ::syscall(SYS_capget, &header, words.data());
  return words[0].permitted | uint64_t{words[1].permitted} << 32;
}

bool has_less(CapabilitySet keep) {
  return (permitted() & ~keep) == 0 && ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

using RawAction = std::array<uintptr_t, 32>;

RawAction action_of(int signal) {
  RawAction action{};
  ::syscall(SYS_rt_sigaction, signal, nullptr, action.data(), 8);
  return action;
}

int exit_code_of(const std::function<int()>& work) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(work());
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void block_all() {
  sigset_t all;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

TEST_CASE("Every thread loses what is not kept, those that block all signals or start others too") {
  constexpr CapabilitySet kKeep = CapabilitySet{1} << CAP_NET_ADMIN;
  CHECK(exit_code_of([] {
          std::atomic<bool> go{false};
          std::atomic<int> ready{0};
          std::atomic<int> wrong{0};
          std::vector<std::thread> threads;
          threads.reserve(kBlocking + 1);
          for (int i = 0; i < kBlocking; ++i)
            threads.emplace_back([&, i] {
              if (i % 2 == 0) block_all();
              ++ready;
              // One never enters the kernel, where there may be one CPU for all.
              while (!go)
                if (i > 0) ::poll(nullptr, 0, 20);
              if (!has_less(kKeep)) ++wrong;
            });
          // Others come and go meanwhile.
          threads.emplace_back([&] {
            ++ready;
            for (int i = 0; i < 5; ++i) std::thread([] {}).join();
            while (!go) ::poll(nullptr, 0, 20);
            std::thread([&] { wrong += has_less(kKeep) ? 0 : 1; }).join();
          });
          while (ready < kBlocking + 1) ::poll(nullptr, 0, 1);
          const uint64_t before = permitted();
          const Status refused = drop_privileges({.keep = kKeep});
          go = true;
          for (std::thread& thread : threads) thread.join();
          if (refused) return 1;
          if (wrong > 0) return 2;
          return has_less(kKeep) && permitted() == (before & kKeep) ? 0 : 3;
        }) == 0);
}

TEST_CASE("A thread that cannot be reached: an error, and the caller has what it had") {
  CHECK(exit_code_of([] {
          std::atomic<bool> ready{false};
          std::thread([&] {
            uint64_t all = ~uint64_t{0};
            ::syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, nullptr, sizeof(all));
            ready = true;
            for (;;) ::pause();
          }).detach();
          while (!ready) ::poll(nullptr, 0, 1);
          const uint64_t before = permitted();
          const Status refused = drop_privileges({.keep = 0});
          if (!refused || refused->number != ETIMEDOUT) return 1;
          return permitted() == before && ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? 0 : 2;
        }) == 0);
}

TEST_CASE("The signals are as they were afterwards") {
  CHECK(exit_code_of([] {
          struct sigaction before {};
          before.sa_handler = SIG_IGN;
          if (::sigaction(SIGPWR, &before, nullptr) < 0) return 1;
          std::thread([] {
            for (;;) ::pause();
          }).detach();
          const RawAction own = action_of(kUnblockable);
          if (drop_privileges({.keep = ~CapabilitySet{0}})) return 2;
          struct sigaction after {};
          if (::sigaction(SIGPWR, nullptr, &after) < 0 || after.sa_handler != SIG_IGN) return 3;
          return action_of(kUnblockable) == own ? 0 : 4;
        }) == 0);
}

}  // namespace
}  // namespace flannelette::test

#endif
