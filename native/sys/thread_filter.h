// A seccomp filter for the threads that carry packets: the system calls of their loops, and what
// the C library makes for a thread that waits, frees memory and ends. Everything else (open,
// socket, execve, ptrace, bpf, setsockopt, ...) fails with EPERM.
//
// A refusal and not the end of the process: the threads run no foreign code, so a call outside the
// list is most likely a C library that does the same by another call. That must show (an errno the
// loops count) and not take a node off the network; for whoever has the thread in hand a refused
// call is as useless as a dead process.
//
// The list, with what makes the call:
//   read write readv writev                  TUN, pipe of events
//   recvmsg sendmsg recvmmsg sendmmsg        UDP sockets, ICMP
//   poll ppoll sched_yield                   waits
//   clock_gettime                            clocks without a vDSO (Xen, HPET)
//   nanosleep clock_nanosleep                rests
//   ioctl FIONREAD, fcntl F_GETPIPE_SZ       room in the pipe of events
//   futex                                    the C library's locks
//   brk mmap mprotect mremap munmap madvise  memory; not executable
//   rt_sigprocmask rt_sigreturn sigaltstack restart_syscall   signals, a stop and continue
//   getpid gettid tgkill                     abort
//   exit exit_group
// The calls with 64-bit time of 32-bit machines and socketcall for the four messages count with
// them.
#pragma once

namespace flannelette {

// Whether this kernel has seccomp filters (Linux 3.5, CONFIG_SECCOMP_FILTER); changes nothing. 0,
// or the errno.
int check_seccomp();

// Puts the calling thread, and no other, under the filter for good; sets its no_new_privs, without
// which that takes CAP_SYS_ADMIN. By seccomp(2) (3.17), else by prctl(2). 0, or the errno.
int filter_packet_thread();

}  // namespace flannelette
