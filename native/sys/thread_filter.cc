#include "sys/thread_filter.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/net.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <utility>
#include <vector>

// Linux 4.17.
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW 4
#endif

namespace flannelette {

namespace {

// The calling convention that the numbers below belong to; 0: not known, no filter.
#if defined(__x86_64__) && !defined(__ILP32__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__i386__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_I386;
#elif defined(__aarch64__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#elif defined(__arm__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_ARM;
#elif defined(__riscv) && __riscv_xlen == 64
constexpr uint32_t kArchitecture = AUDIT_ARCH_RISCV64;
#elif defined(__s390x__)
constexpr uint32_t kArchitecture = AUDIT_ARCH_S390X;
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
constexpr uint32_t kArchitecture = AUDIT_ARCH_PPC64LE;
#else
constexpr uint32_t kArchitecture = 0;
#endif

constexpr uint32_t kAllow = SECCOMP_RET_ALLOW;
constexpr uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;

// Those made per batch come first: the kernel goes through the list at each call (since 5.11 only
// for those whose arguments count).
constexpr int kCalls[] = {
#ifdef SYS_poll
    SYS_poll,
#endif
    SYS_ppoll,
    SYS_recvmmsg,
    SYS_sendmmsg,
    SYS_readv,
    SYS_writev,
    SYS_read,
    SYS_write,
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_sched_yield,
    SYS_futex,
    SYS_nanosleep,
#ifdef SYS_clock_gettime
    SYS_clock_gettime,
    SYS_clock_nanosleep,
#else
    // musl's names for them where words have 32 bits.
    SYS_clock_gettime32,
    SYS_clock_nanosleep_time32,
#endif
#ifdef SYS_ppoll_time64
    SYS_ppoll_time64,
    SYS_recvmmsg_time64,
    SYS_futex_time64,
    SYS_clock_gettime64,
    SYS_clock_nanosleep_time64,
#endif
    SYS_brk,
    SYS_mremap,
    SYS_munmap,
    SYS_madvise,
    SYS_rt_sigprocmask,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_restart_syscall,
    SYS_getpid,
    SYS_gettid,
    SYS_tgkill,
    SYS_exit,
    SYS_exit_group,
};

sock_filter statement(uint16_t code, uint32_t value) { return BPF_STMT(code, value); }

sock_filter jump(uint16_t condition, uint32_t value, size_t yes, size_t no) {
  return BPF_JUMP(static_cast<uint16_t>(BPF_JMP | condition | BPF_K), value,
                  static_cast<uint8_t>(yes), static_cast<uint8_t>(no));
}

constexpr auto kEqual = BPF_JEQ;
constexpr auto kAnyBit = BPF_JSET;

// The lower half of an argument, which is all that calls look at whose argument is an int.
sock_filter load_argument(size_t index) {
  constexpr size_t kLower = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? sizeof(uint32_t) : 0;
  return statement(BPF_LD | BPF_W | BPF_ABS,
                   static_cast<uint32_t>(offsetof(seccomp_data, args) + 8 * index + kLower));
}

class Program {
 public:
  Program() {
    add(statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)));
    add(jump(kEqual, kArchitecture, 1, 0));
    add(statement(BPF_RET | BPF_K, kRefuse));
    add(statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
  }

  void allow(int call) {
    add(jump(kEqual, static_cast<uint32_t>(call), 0, 1));
    add(statement(BPF_RET | BPF_K, kAllow));
  }

  // When the argument is one of the values.
  void allow_if(int call, size_t argument, std::initializer_list<uint32_t> values) {
    add(jump(kEqual, static_cast<uint32_t>(call), 0, 2 + 2 * values.size()));
    add(load_argument(argument));
    for (const uint32_t value : values) {
      add(jump(kEqual, value, 0, 1));
      add(statement(BPF_RET | BPF_K, kAllow));
    }
    add(statement(BPF_RET | BPF_K, kRefuse));
  }

  // When the argument has none of the bits.
  void allow_without(int call, size_t argument, uint32_t bits) {
    add(jump(kEqual, static_cast<uint32_t>(call), 0, 4));
    add(load_argument(argument));
    add(jump(kAnyBit, bits, 0, 1));
    add(statement(BPF_RET | BPF_K, kRefuse));
    add(statement(BPF_RET | BPF_K, kAllow));
  }

  std::vector<sock_filter> end() {
    add(statement(BPF_RET | BPF_K, kRefuse));
    return std::move(code_);
  }

 private:
  void add(sock_filter instruction) { code_.push_back(instruction); }

  std::vector<sock_filter> code_;
};

std::vector<sock_filter> packet_thread_program() {
  Program program;
  for (const int call : kCalls) program.allow(call);
  program.allow_if(SYS_ioctl, 1, {FIONREAD});
#ifdef SYS_fcntl
  program.allow_if(SYS_fcntl, 1, {F_GETPIPE_SZ});
#endif
#ifdef SYS_fcntl64
  program.allow_if(SYS_fcntl64, 1, {F_GETPIPE_SZ});
#endif
#ifdef SYS_mmap2
  program.allow_without(SYS_mmap2, 2, PROT_EXEC);
#elif defined(__s390x__)
  // It takes its arguments in memory, where no filter looks.
  program.allow(SYS_mmap);
#else
  program.allow_without(SYS_mmap, 2, PROT_EXEC);
#endif
  program.allow_without(SYS_mprotect, 2, PROT_EXEC);
#ifdef SYS_socketcall
  program.allow_if(SYS_socketcall, 0, {SYS_SENDMSG, SYS_RECVMSG, SYS_SENDMMSG, SYS_RECVMMSG});
#endif
  return program.end();
}

// Without the flag the kernel slows a filtered thread down (SSBD, STIBP; the default up to 5.15),
// which protects against untrusted code in it. There is none.
int set_filter(const sock_fprog& filter) {
#ifdef SYS_seccomp
  for (const unsigned long flags : {SECCOMP_FILTER_FLAG_SPEC_ALLOW + 0UL, 0UL}) {
    if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter) == 0) return 0;
    if (errno != EINVAL) break;
  }
#endif
  return ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) < 0 ? errno : 0;
}

}  // namespace

int check_seccomp() {
  if (kArchitecture == 0) return EOPNOTSUPP;
  // With the feature the kernel looks for the filter at address 0; without, it knows no such mode.
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, nullptr, 0, 0) == 0) return 0;
  return errno == EFAULT ? 0 : errno;
}

int filter_packet_thread() {
  if (kArchitecture == 0) return EOPNOTSUPP;
  std::vector<sock_filter> code = packet_thread_program();
  const sock_fprog filter{static_cast<unsigned short>(code.size()), code.data()};
  (void)::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return set_filter(filter);
}

}  // namespace flannelette
