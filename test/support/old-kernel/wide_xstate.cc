// Preloaded into a user-mode Linux kernel: its ptrace(2) of the extended processor state also works
// where that state is larger than the kernel was built for.
//
// User-mode Linux sets NT_X86_XSTATE with the 2,696 bytes it knows. The host takes its own whole
// size and nothing less (EFAULT): 11,008 bytes on a processor with AMX, where no kernel before 6.13
// starts. So the part it knows is laid over what the traced thread has.
#include <elf.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstring>

namespace {

constexpr size_t kWholeBytes = 16'384;

long set_xstate(pid_t pid, const iovec* part) {
  // Not on the stack, which is a kernel's of 16 KiB; there is one thread that traces.
  alignas(64) static unsigned char whole[kWholeBytes];
  iovec all{whole, sizeof(whole)};
  if (::syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &all) < 0) return -1;
  std::memcpy(whole, part->iov_base, std::min(part->iov_len, all.iov_len));
  return ::syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &all);
}

}  // namespace

// As the C library's: a request that reads a word returns it (ptrace(2), "C library/kernel
// differences").
extern "C" long ptrace(enum __ptrace_request request, ...) {
  va_list more;
  va_start(more, request);
  const pid_t pid = va_arg(more, pid_t);
  void* address = va_arg(more, void*);
  void* data = va_arg(more, void*);
  va_end(more);
  if (request == PTRACE_SETREGSET && reinterpret_cast<long>(address) == NT_X86_XSTATE)
    return set_xstate(pid, static_cast<const iovec*>(data));
  const bool reads =
      request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER;
  long word = 0;
  const long result = ::syscall(SYS_ptrace, request, pid, address, reads ? &word : data);
  if (!reads || result < 0) return result;
  errno = 0;
  return word;
}
