// Runs a program for whom the kernel refuses features, as kernels without them do, or whose calls
// fail or hang:
//
//   refuse RULE=ERRNO[@N] ... -- PROGRAM [ARGUMENT ...]
//
// A rule is about the calls of one kind (see kKinds), by the arguments and what they point to. From
// the Nth such call on (the first unless told) they return ERRNO and have no effect, or never
// return when ERRNO is HANG. Nothing else changes, and the threads and children of the program are
// under the same rules.
//
// How: the program runs under a seccomp filter that stops at the system calls in question for a
// second process, which traces it, looks into the caller's memory and refuses the call or lets it
// go on (SECCOMP_RET_TRACE, Linux 3.5). Nobody else can trace the program meanwhile.
#include <elf.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/virtio_net.h"
#include "sys/kernel.h"

namespace {

using flannelette::kGsoEcn;
using flannelette::kGsoNone;
using flannelette::kGsoTcp4;
using flannelette::kGsoUdpL4;
using flannelette::VirtioNetHeader;

// A call under way: its number and arguments, and the memory of the thread that makes it.
struct Call {
  pid_t thread;
  int number;
  std::array<uint64_t, 5> arguments;

  template <typename T>
  T at(uint64_t address) const {
    T value{};
    const iovec here = {&value, sizeof(value)};
    const iovec there = {reinterpret_cast<void*>(address), sizeof(value)};
    return ::process_vm_readv(thread, &here, 1, &there, 1, 0) == sizeof(value) ? value : T{};
  }
};

bool always(const Call& /*call*/) { return true; }

// By a thread of the data plane (native/engine/engine.cc gives them their names).
bool by_packet_thread(const Call& call) {
  const std::string path = "/proc/" + std::to_string(call.thread) + "/comm";
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  char name[16] = {};
  const ssize_t length = fd < 0 ? 0 : ::read(fd, name, sizeof(name));
  ::close(fd);
  const std::string_view comm(name, length < 0 ? 0 : static_cast<size_t>(length));
  return comm.starts_with("fl-tunnel") || comm.starts_with("fl-encap") ||
         comm.starts_with("fl-decap");
}

bool is_netlink(const Call& call) {
  return call.arguments[4] != 0 && call.at<sa_family_t>(call.arguments[4]) == AF_NETLINK;
}

// A call with a path as its second argument, about the lab's lease file.
bool names_lease_file(const Call& call) {
  struct Path {
    char text[64];
  };
  const Path path = call.at<Path>(call.arguments[1]);
  return std::string_view(path.text, ::strnlen(path.text, sizeof(path.text)))
      .ends_with("/leases.json");
}

bool is_option(const Call& call, int option) {
  return call.arguments[1] == IPPROTO_UDP && call.arguments[2] == static_cast<uint64_t>(option);
}
bool asks_for_gso(const Call& call) { return is_option(call, UDP_SEGMENT); }
bool asks_for_gro(const Call& call) { return is_option(call, UDP_GRO); }

bool shares_port(const Call& call) {
  return call.arguments[1] == SOL_SOCKET && call.arguments[2] == SO_REUSEPORT;
}

bool is_request(const Call& call, unsigned request) {
  return static_cast<uint32_t>(call.arguments[1]) == request;
}
bool sets_offload(const Call& call) { return is_request(call, TUNSETOFFLOAD); }
bool sets_uso(const Call& call) {
  return sets_offload(call) && (call.arguments[2] & (TUN_F_USO4 | TUN_F_USO6)) != 0;
}
bool opens_with(const Call& call, short flag) {
  return is_request(call, TUNSETIFF) && (call.at<ifreq>(call.arguments[2]).ifr_flags & flag) != 0;
}
bool opens_with_header(const Call& call) { return opens_with(call, IFF_VNET_HDR); }
bool opens_queue(const Call& call) { return opens_with(call, IFF_MULTI_QUEUE); }

bool asks_for_filter(const Call& call) { return call.arguments[0] == PR_SET_SECCOMP; }

// A train is a message with a control message. Of many messages the first is looked at: the kernel
// would send those before a train it refuses, and the next call would begin with that train.
bool sends_train(const Call& call) {
  return call.at<msghdr>(call.arguments[1]).msg_controllen != 0;
}

uint8_t written_gso_type(const Call& call) {
  const auto first = call.at<iovec>(call.arguments[1]);
  if (call.arguments[2] < 2 || first.iov_len < sizeof(VirtioNetHeader)) return kGsoNone;
  return call.at<VirtioNetHeader>(reinterpret_cast<uint64_t>(first.iov_base)).gso_type;
}
bool writes_tcp_train(const Call& call) { return (written_gso_type(call) & ~kGsoEcn) == kGsoTcp4; }
bool writes_udp_train(const Call& call) { return written_gso_type(call) == kGsoUdpL4; }

// Marks a stop at a system call (PTRACE_O_TRACESYSGOOD).
constexpr int kSyscallStop = 0x80;

struct Kind {
  std::string_view name;
  std::vector<int> calls;
  bool (*matches)(const Call&);
};

// Calls whose first argument is a descriptor, or an operation: there is none of number -1.
const std::vector<Kind> kKinds = {
    {"recvmmsg", {SYS_recvmmsg}, always},
    {"sendmmsg", {SYS_sendmmsg}, always},
    {"udp-gso", {SYS_getsockopt, SYS_setsockopt}, asks_for_gso},
    {"udp-gro", {SYS_setsockopt}, asks_for_gro},
    {"port-sharing", {SYS_setsockopt}, shares_port},
    {"train-sent", {SYS_sendmsg, SYS_sendmmsg}, sends_train},
    {"tun-header", {SYS_ioctl}, opens_with_header},
    {"tun-queue", {SYS_ioctl}, opens_queue},
    {"tun-offload", {SYS_ioctl}, sets_offload},
    {"tun-uso", {SYS_ioctl}, sets_uso},
    {"tcp-train-written", {SYS_writev}, writes_tcp_train},
    {"udp-train-written", {SYS_writev}, writes_udp_train},
    {"packet-read", {SYS_read, SYS_readv}, by_packet_thread},
    {"packet-written", {SYS_write, SYS_writev}, by_packet_thread},
    {"packet-received", {SYS_recvmsg, SYS_recvmmsg}, by_packet_thread},
    {"packet-sent", {SYS_sendmsg, SYS_sendmmsg}, by_packet_thread},
    {"packet-poll", {SYS_poll}, by_packet_thread},
    {"netlink", {SYS_sendto}, is_netlink},
    {"netlink-answer", {SYS_recvfrom}, always},
    {"seccomp", {SYS_seccomp}, always},
    {"prctl-seccomp", {SYS_prctl}, asks_for_filter},
    {"thread-signal", {SYS_tgkill}, always},
    {"lease-file", {SYS_openat, SYS_statx}, names_lease_file},
};

// Instead of an errno: the call does not return.
constexpr int kHang = -1;

const std::vector<std::pair<std::string_view, int>> kErrors = {{"EINVAL", EINVAL},
                                                               {"EIO", EIO},
                                                               {"EMSGSIZE", EMSGSIZE},
                                                               {"ENOPROTOOPT", ENOPROTOOPT},
                                                               {"EOPNOTSUPP", EOPNOTSUPP},
                                                               {"ENOSYS", ENOSYS},
                                                               {"EINTR", EINTR},
                                                               {"EAGAIN", EAGAIN},
                                                               {"HANG", kHang}};

struct Rule {
  const Kind* kind;
  int error;
  uint64_t first;  // the first call refused, from 1
  uint64_t seen = 0;
};

[[noreturn]] void fail(const std::string& what, int number) {
  std::fprintf(stderr, "refuse: %s: %s\n", what.c_str(), std::strerror(number));
  std::_Exit(1);
}

template <typename T>
T checked(T result, const char* what) {
  if (result < 0) fail(what, errno);
  return result;
}

Rule parse_rule(std::string_view text) {
  const size_t equals = text.find('=');
  const size_t at = text.find('@');
  const std::string_view name = text.substr(0, equals);
  const std::string_view error =
      equals == text.npos ? "" : text.substr(equals + 1, at == text.npos ? at : at - equals - 1);
  Rule rule{nullptr, 0, at == text.npos ? 1 : std::strtoull(text.data() + at + 1, nullptr, 10)};
  for (const Kind& kind : kKinds)
    if (kind.name == name) rule.kind = &kind;
  for (const auto& [known, number] : kErrors)
    if (known == error) rule.error = number;
  if (rule.kind == nullptr || rule.error == 0 || rule.first == 0)
    fail("rule " + std::string(text), EINVAL);
  return rule;
}

// The registers of a thread that is stopped at a call: its number, arguments and result.
#if defined(__x86_64__)
using Registers = user_regs_struct;
Call call_in(pid_t thread, const Registers& from) {
  return {
      thread, static_cast<int>(from.orig_rax), {from.rdi, from.rsi, from.rdx, from.r10, from.r8}};
}
auto& first_argument(Registers& of) { return of.rdi; }
auto& result(Registers& of) { return of.rax; }
// User-mode Linux has no PTRACE_GETREGSET.
bool read_registers(pid_t thread, Registers& out) {
  return ::ptrace(PTRACE_GETREGS, thread, nullptr, &out) == 0;
}
void write_registers(pid_t thread, Registers& from) {
  (void)::ptrace(PTRACE_SETREGS, thread, nullptr, &from);
}
#elif defined(__aarch64__)
using Registers = user_regs_struct;
Call call_in(pid_t thread, const Registers& from) {
  const auto& at = from.regs;
  return {thread, static_cast<int>(at[8]), {at[0], at[1], at[2], at[3], at[4]}};
}
auto& first_argument(Registers& of) { return of.regs[0]; }
auto& result(Registers& of) { return of.regs[0]; }
bool read_registers(pid_t thread, Registers& out) {
  iovec bytes{&out, sizeof(out)};
  return ::ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &bytes) == 0;
}
void write_registers(pid_t thread, Registers& from) {
  iovec bytes{&from, sizeof(from)};
  (void)::ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &bytes);
}
#else
#error "refuse: the registers of this processor are not known"
#endif

// Stops at the calls of the rules, for the tracer; all others pass.
void install_filter(const std::vector<Rule>& rules) {
  std::vector<sock_filter> program = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
  for (const Rule& rule : rules) {
    for (const int call : rule.kind->calls) {
      program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<uint32_t>(call), 0, 1));
      program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE));
    }
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  const sock_fprog filter = {static_cast<uint16_t>(program.size()), program.data()};
  checked(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS");
  checked(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), "PR_SET_SECCOMP");
}

bool is_stop_signal(int signal) {
  return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

class Supervisor {
 public:
  explicit Supervisor(std::vector<Rule> rules) : rules_(std::move(rules)) {}

  // Until no process is left under the filter.
  void run() {
    for (;;) {
      int status = 0;
      const pid_t thread = ::waitpid(-1, &status, __WALL);
      if (thread < 0 && errno != EINTR) return;
      if (thread <= 0) continue;
      if (WIFSTOPPED(status)) {
        resume(thread, status);
      } else {
        refused_.erase(thread);
      }
    }
  }

 private:
  // A call under way that is refused.
  struct Refused {
    int error;
    uint64_t first_argument;
  };

  enum class Decision { kAllow, kRefuse, kHang };

  // Lets a stopped thread go on, as if it were not traced (ptrace(2)).
  void resume(pid_t thread, int status) {
    const int event = status >> 16;
    const int signal = WSTOPSIG(status);
    if (event == PTRACE_EVENT_SECCOMP) {
      const Decision decision = decide(thread);
      // Left stopped, it hangs until it is killed.
      if (decision == Decision::kHang) return;
      proceed(thread, decision == Decision::kRefuse ? PTRACE_SYSCALL : PTRACE_CONT);
    } else if (signal == (SIGTRAP | kSyscallStop)) {
      proceed(thread, finish(thread) ? PTRACE_CONT : PTRACE_SYSCALL);
    } else if (event == PTRACE_EVENT_STOP && is_stop_signal(signal)) {
      // The whole process was stopped, and stays so.
      proceed(thread, PTRACE_LISTEN);
    } else {
      proceed(thread, PTRACE_CONT, event == 0 ? signal : 0);
    }
  }

  static void proceed(pid_t thread, __ptrace_request request, int signal = 0) {
    (void)::ptrace(request, thread, nullptr, signal);
  }

  // What becomes of the call a thread is about to make; a refused one is made with descriptor -1.
  Decision decide(pid_t thread) {
    Registers registers{};
    // Killed meanwhile.
    if (!read_registers(thread, registers)) return Decision::kAllow;
    const Call call = call_in(thread, registers);
    for (Rule& rule : rules_) {
      bool named = false;
      for (const int number : rule.kind->calls) named = named || number == call.number;
      if (!named || !rule.kind->matches(call) || ++rule.seen < rule.first) continue;
      if (rule.error == kHang) return Decision::kHang;
      refused_[thread] = {rule.error, call.arguments[0]};
      first_argument(registers) = ~uint64_t{0};
      write_registers(thread, registers);
      return Decision::kRefuse;
    }
    return Decision::kAllow;
  }

  // Replaces the result of a refused call. False when it is still to be made: before Linux 4.8 the
  // stop at its entry comes after the filter's.
  bool finish(pid_t thread) {
    Registers registers{};
    const auto at = refused_.find(thread);
    if (at == refused_.end() || !read_registers(thread, registers)) return true;
    if (static_cast<int64_t>(result(registers)) == -ENOSYS) return false;
    first_argument(registers) = at->second.first_argument;
    result(registers) = static_cast<uint64_t>(-int64_t{at->second.error});
    write_registers(thread, registers);
    refused_.erase(at);
    return true;
  }

  std::vector<Rule> rules_;
  std::map<pid_t, Refused> refused_;  // by thread
};

}  // namespace

int main(int count, char** arguments) {
  std::vector<Rule> rules;
  int at = 1;
  for (; at < count && std::string_view(arguments[at]) != "--"; ++at)
    rules.push_back(parse_rule(arguments[at]));
  if (rules.empty() || at + 1 >= count) fail("RULE=ERRNO[@N] ... -- PROGRAM", EINVAL);

  // The supervisor is not under the filter, so it is there first; it is nobody's child.
  int pair[2];
  checked(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), "socketpair");
  const pid_t program = ::getpid();
  // Where only ancestors may trace (Yama).
  (void)::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
  const pid_t between = checked(::fork(), "fork");
  if (between == 0) {
    if (checked(::fork(), "fork") != 0) std::_Exit(0);
    constexpr unsigned long kTraced = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACESECCOMP |
                                      PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                                      PTRACE_O_TRACEVFORK;
    checked(::ptrace(PTRACE_SEIZE, program, nullptr, kTraced), "PTRACE_SEIZE");
    checked(::write(pair[1], "", 1), "write");
    ::close(pair[0]);
    ::close(pair[1]);
    Supervisor(std::move(rules)).run();
    std::_Exit(0);
  }
  ::close(pair[1]);
  ::waitpid(between, nullptr, 0);
  char traced;
  if (::read(pair[0], &traced, 1) != 1) fail("no supervisor", ECHILD);
  install_filter(rules);
  ::execvp(arguments[at + 1], arguments + at + 1);
  fail(arguments[at + 1], errno);
}
