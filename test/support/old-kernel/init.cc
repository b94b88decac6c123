// Process 1 of a user-mode Linux kernel that has this machine's files as its read-only root: makes
// what a program needs to write to, runs one command, leaves its output and status in the folder
// the kernel was given, and halts. It must not end: a kernel whose process 1 ends panics.
//
// From the kernel's command line, as environment: FL_CHANNEL the folder on the host, FL_CHECKOUT
// the checkout, FL_MODULES a folder with lib/modules/RELEASE (may be missing).
#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

// Laid empty over the read-only root: overlayfs above hostfs cannot open files before Linux 6.1.
constexpr const char* kWritable[] = {"/run",     "/root", "/var/lib", "/var/log",
                                     "/var/tmp", "/home", "/mnt",     "/tmp"};
constexpr const char* kChannel = "/mnt/channel";
constexpr const char* kModules = "/mnt/modules";
constexpr const char* kModprobe = "/run/modprobe";
constexpr size_t kSeedBytes = 512;

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void complain(const std::string& what) {
  std::fprintf(stderr, "init: %s: %s\n", what.c_str(), std::strerror(errno));
}

bool mounted(const char* type, const std::string& where, const std::string& options,
             unsigned long flags = 0) {
  if (::mount("none", where.c_str(), type, flags, options.c_str()) == 0) return true;
  complain("mount " + where);
  return false;
}

void make_folders(const std::string& path) {
  for (size_t at = path.find('/', 1); at != std::string::npos; at = path.find('/', at + 1))
    ::mkdir(path.substr(0, at).c_str(), 0755);
  ::mkdir(path.c_str(), 0755);
}

// A quiet machine never fills the random pool before Linux 5.6, and Node waits for it: the bytes
// are the host's, by way of the channel.
void credit_entropy() {
  alignas(rand_pool_info) unsigned char memory[sizeof(rand_pool_info) + kSeedBytes] = {};
  auto* pool = reinterpret_cast<rand_pool_info*>(memory);
  const int seed = ::open((std::string(kChannel) + "/seed").c_str(), O_RDONLY | O_CLOEXEC);
  const int random = ::open("/dev/urandom", O_WRONLY | O_CLOEXEC);
  if (seed < 0 || random < 0) return complain("seed");
  pool->buf_size = static_cast<int>(::read(seed, memory + sizeof(rand_pool_info), kSeedBytes));
  pool->entropy_count = 8 * pool->buf_size;
  if (::ioctl(random, RNDADDENTROPY, pool) < 0) complain("RNDADDENTROPY");
  ::close(seed);
  ::close(random);
}

void write_text(const std::string& path, const std::string& text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0 || ::write(file, text.data(), text.size()) < 0) complain(path);
  ::close(file);
}

// The root is read-only and has no folder for this kernel's modules: whatever asks for one, the
// kernel included, does it by way of a wrapper that knows where they are.
void lay_modules(const std::string& folder) {
  ::mkdir(kModules, 0755);
  if (!mounted("hostfs", kModules, folder)) return;
  write_text(kModprobe, std::string("#!/bin/sh\nexec /sbin/modprobe -d ") + kModules + " \"$@\"\n");
  ::chmod(kModprobe, 0755);
  write_text("/proc/sys/kernel/modprobe", kModprobe);
}

int run_command() {
  const std::string channel = kChannel;
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string output = channel + "/output";
    const int file = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    ::dup2(::open("/dev/null", O_RDONLY), STDIN_FILENO);
    ::setsid();
    ::setenv("HOME", "/root", 1);
    ::setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    if (::chdir(environment("FL_CHECKOUT")) == 0)
      ::execl("/bin/sh", "sh", (channel + "/command").c_str(), nullptr);
    complain("command");
    ::_exit(127);
  }
  for (;;) {
    int status = 0;
    const pid_t ended = ::waitpid(-1, &status, 0);
    if (ended < 0 && errno != EINTR) return 127;
    if (ended == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
}

}  // namespace

int main() {
  const std::string checkout = environment("FL_CHECKOUT");
  const std::string modules = environment("FL_MODULES");
  mounted("proc", "/proc", "");
  mounted("sysfs", "/sys", "");
  // It may be mounted already (CONFIG_DEVTMPFS_MOUNT).
  if (::access("/dev/null", W_OK) != 0 || ::access("/dev/net", F_OK) != 0)
    ::mount("none", "/dev", "devtmpfs", 0, "");
  // As kmod's static nodes: opening it loads the module.
  ::mkdir("/dev/net", 0755);
  ::mknod("/dev/net/tun", S_IFCHR | 0666, makedev(10, 200));
  ::mkdir("/dev/shm", 01777);
  mounted("tmpfs", "/dev/shm", "");
  ::mkdir("/dev/pts", 0755);
  mounted("devpts", "/dev/pts", "");
  for (const char* folder : kWritable) mounted("tmpfs", folder, "mode=1777");
  // The checkout may lie below one of those.
  make_folders(checkout);
  mounted("hostfs", checkout, checkout);
  make_folders(kChannel);
  if (!mounted("hostfs", kChannel, environment("FL_CHANNEL"))) ::reboot(RB_POWER_OFF);
  credit_entropy();
  if (!modules.empty()) lay_modules(modules);
  const int status = run_command();
  write_text(std::string(kChannel) + "/status", std::to_string(status) + "\n");
  ::sync();
  ::reboot(RB_POWER_OFF);
  return 0;
}
