// The data plane of one host: a TUN device, a UDP port, and threads that carry packets between
// them.
//
//   workers 1   one pair, one thread for both directions
//   workers 2   one pair, a thread for each direction
//   workers 2k  k pairs (a queue of the TUN, a socket on the port), two threads each
//
// The kernel keeps an inner flow on one queue and an outer flow on one socket, so pairs do not
// change the order of a flow's packets; nothing is shared between pairs but what is read only.
//
// Owned and called by one control thread; the data-plane threads touch nothing of it but what
// DirectionContext names. An engine is opened, started once and closed; a restart is a new engine.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/decapsulation.h"
#include "engine/encapsulation.h"
#include "engine/kernel_share.h"
#include "engine/path_mtu.h"
#include "sys/source_filter.h"
#include "sys/tun.h"
#include "sys/udp_socket.h"

namespace flannelette {

inline constexpr size_t kSourcePortsMax = 64;
// The kernel doubles what is asked for, in an int (net/core/sock.c).
inline constexpr size_t kSocketBufferBytesMax = size_t{1} << 30;
// 64 KiB each at worst: 4 GiB.
inline constexpr uint32_t kTunQueuePacketsMax = 65536;
inline constexpr uint32_t kPathMtuSecondsMax = 86400;

struct EngineOptions {
  std::string tun_name = "flannel%d";
  uint32_t tun_address = 0;  // set with prefix length 32
  Subnet overlay;
  Subnet own;
  uint32_t mtu = 1472;        // of the TUN, bytes
  uint32_t bind_address = 0;  // of the UDP socket
  uint16_t port = 8285;
  Mode mode = Mode::kBatch;
  size_t workers = 2;          // threads: 1, or 2 for each queue pair
  std::vector<unsigned> cpus;  // threads keep to these in turn; empty: to none
  size_t source_ports = 1;     // datagrams leave by, 1 to kSourcePortsMax
  FeatureSet disabled = 0;     // optional kernel features to do without
  bool source_check = true;
  int socket_buffer_bytes = 0;  // of each socket, both ways; 0: the kernel's default
  // In front of each reader of the TUN. The kernel's own default of 500 is eleven TCP segments of
  // 64 KiB cut to size: one sender's burst overflows it.
  uint32_t tun_queue_packets = 1000;
  size_t ring_bytes = kRingBytesDefault;  // of each encapsulation
  // How long a path that takes no full-size packets is believed to be one (engine/path_mtu.h).
  uint32_t path_mtu_seconds = 600;
  // Descriptors that another process opened, a queue of the TUN and a socket for each pair: they
  // are used instead of new ones. The engine owns them from Engine::open on, also when that fails.
  std::vector<int> adopted_tun = {};
  std::vector<int> adopted_udp = {};
  // What a process left of the kernel's own share (kernel_path_fds); ends at start().
  std::vector<int> adopted_links = {};
  // Another program has the port, and perhaps the overlay's route: as after step_aside, from
  // start() on. EOPNOTSUPP in mode kernel.
  bool aside = false;
  // Of a process that still carries packets by them: the end of a pipe that it closes when its
  // threads have stopped, or when it ends. Negative: nobody does.
  int adopted_until = -1;
};

// The kernel's queues in front of the readers and behind the writers, as granted.
struct QueueSizes {
  SocketBuffers socket;
  uint32_t tun_packets = 0;
};

// What the queues in front of the readers dropped; empty where the kernel does not tell.
struct QueueDrops {
  std::vector<std::optional<uint64_t>> udp;  // of each pair's socket
  std::optional<uint64_t> tun;               // of the device
};

struct EngineDeviceCheck {
  DeviceCheck device;
  // An address of a next hop's subnet that the kernel sends nothing to although the route is there,
  // because of a policy rule, say; 0 when it does, or nothing has been published yet.
  uint32_t refused = 0;
};

class Engine {
 public:
  // Binds the socket and sets the device up; on failure nothing is left behind. With adopted
  // descriptors it changes nothing of device and port: another process may go on carrying packets
  // by them until start(). There are as many pairs as it had, whatever `workers` says. Without such
  // a process (adopted_until) they have to be as the options ask for: EINVAL.
  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options, Io& io = kernel_io());
  ~Engine() { close(); }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Starts the threads. EALREADY when started, EBADF when closed, else pthread_create's errno,
  // EINVAL for a CPU that is not there.
  // With adopted descriptors that another process still uses the threads begin when that has
  // stopped; EBUSY when the mode needs them set up in another way than they are, which only the
  // last one may: start again when it has stopped.
  Status start();
  // Stops and joins the threads (well under 1 s), removes the device, closes the socket.
  // Idempotent.
  void close();
  // The same, but the kernel's own share goes on for some seconds as long as another process has
  // kernel_path_fds(), and the device as long as it has tun_fds().
  void leave();

  // Goes on in another mode with the same device, port, routes and counters: the threads stop, and
  // start again if they had been started. Packets wait in the kernel meanwhile, about a
  // millisecond; where the virtio header comes or goes those in the TUN's queue are lost. The
  // kernel's own share knows no routes then: they have to be given again. EBADF when closed; after
  // another error it is closed.
  Status change_mode(Mode mode);

  // Another program is to have port and routes: datagrams to the port arrive by another one from
  // now on (sys/port_diversion.h), and the device's routes are those of the overlay's halves.
  // Packets wait for about a millisecond. Undone by step_back; close() leaves both to that program
  // once what was on its way has been carried. EBADF when closed, EALREADY when it has been done,
  // EBUSY while another process uses the descriptors, EOPNOTSUPP in mode kernel and where nf_tables
  // cannot; after an error of the switch itself the engine is closed.
  Status step_aside();
  // EADDRINUSE when another program has the port: it stays aside. EINVAL when it is not.
  Status step_back();

  // Compares the device with the options and restores what it has lost (Tun::check). EBADF when
  // closed.
  Result<EngineDeviceCheck> restore_device();

  // Publishes the routes with these changes made, in their order: a next hop of 0 takes the route
  // to exactly that subnet away. Costs a few microseconds a change, whatever the number of routes.
  void change_routes(std::span<const Route> changes);
  // Whether datagrams from hosts that no route leads to are refused before they are queued, by a
  // filter of the sockets. It lets through what it cannot tell from a next hop where there are many
  // (sys/source_filter.h), and counts nothing: what it refuses is in the sockets' drops. Off at
  // first, and for whoever takes the sockets over. EBADF when closed, EBUSY while another process
  // uses them; another error leaves it off.
  Status filter_sources(bool on);
  // The next hop the data plane would use now; 0 for none.
  uint32_t lookup(uint32_t address);

  // Brings the kernel's share up to date in the counters (kernel_packets, kernel_bytes).
  void count_kernel_share();
  // As of now; as last seen when the device is gone or the engine closed.
  const QueueDrops& queue_drops();
  QueueSizes queue_sizes() const;

  const FeatureSwitches& features() const { return *features_; }
  const std::string& tun_name() const { return tun_name_; }
  // What `adopted_tun` and `adopted_udp` take in another process; empty when closed.
  std::vector<int> tun_fds() const;
  std::vector<int> udp_fds() const;
  // For `adopted_links`; empty without a share, and where it cannot outlive the process.
  std::vector<int> kernel_path_fds() const;
  // The end of a pipe for `adopted_until`; the caller closes it. It hangs up when the threads have
  // stopped for good. EBADF when closed.
  Result<OwnedFd> until_stopped();
  // The read end of the event pipe, once; the caller closes it. -1 when taken or closed.
  int take_event_fd() { return events_.take_read_end(); }
  // One entry for each queue pair.
  std::span<const std::unique_ptr<Encapsulation>> encapsulations() const { return encapsulations_; }
  std::span<const std::unique_ptr<Decapsulation>> decapsulations() const { return decapsulations_; }

 private:
  struct Parts;
  Engine(const EngineOptions& options, Io& io, Parts parts);
  static Result<std::unique_ptr<Engine>> adopt(EngineOptions options, Io& io);
  // Everything but the device and the port.
  static Result<Parts> open_parts(const EngineOptions& options);
  bool has_predecessor() const;
  bool fits() const;
  Status take_charge();
  void end_left();
  DirectionContext context(size_t pair);
  // What one thread carries: a direction, or two in turns.
  struct Worker {
    Direction* first;
    Direction* second;
    std::string name;   // of the thread
    int cpu = -1;       // the thread keeps to it; negative: to none
    int until_fd = -1;  // it begins when this hangs up, or stops; negative: at once
    int stop_fd = -1;
    pthread_t thread = {};
  };
  bool has_memory() const;
  void open_kernel_share();
  void maintain_kernel_share();
  // The threads carry everything from now on.
  void give_up_kernel_share(int number);
  void stop_threads();
  int admit_next_hops();
  Result<std::vector<OwnedFd>> open_sockets(uint16_t port) const;
  Status change_sockets(std::vector<OwnedFd> sockets);
  Status divert(const OwnedFd& to);
  void end_diversion();
  void leave_port();
  std::optional<uint64_t> drops_since_taken(size_t pair) const;
  void make_directions();
  void plan_workers();
  void open_path_mtu();
  Status reopen_device();
  static void* run_worker(void* worker);
  static void* run_path_mtu(void* engine);

  // In the order of use: the directions, made last, go first.
  EngineOptions options_;
  Io& io_;
  std::string tun_name_;
  DeviceSettings settings_;
  uint32_t probe_;                // an address of the overlay beyond this host's subnet
  bool probe_is_routed_ = false;  // it lies in a subnet that was published
  std::unique_ptr<FeatureSwitches> features_;
  bool vnet_header_;  // as the device has it
  std::atomic<bool> stop_{false};
  ForwardingTable routes_;  // the control thread's; what is published are copies
  PublishedTable table_;
  EventPipe events_;
  OwnedFd stop_event_;
  OwnedFd raw_;
  std::vector<OwnedFd> udp_;      // one for each pair
  std::vector<OwnedFd> sources_;  // one for each source port but the first, shared by the pairs
  std::unique_ptr<PathMtu> path_mtu_;  // null: nobody may listen to ICMP
  std::unique_ptr<Tun> tun_;
  std::optional<KernelShare> kernel_share_;                     // in mode kernel
  std::vector<std::unique_ptr<Encapsulation>> encapsulations_;  // one for each pair
  std::vector<std::unique_ptr<Decapsulation>> decapsulations_;
  std::vector<Worker> workers_;
  QueueDrops drops_;
  // Of sockets that were adopted: theirs until then.
  std::vector<std::optional<uint64_t>> drops_before_;
  std::optional<std::vector<AddressRange>> admitted_;  // by filter_sources
  size_t started_ = 0;
  pthread_t path_mtu_thread_ = {};
  bool path_mtu_started_ = false;
  std::vector<OwnedFd> left_;  // see EngineOptions::adopted_links
  OwnedFd until_;              // see EngineOptions::adopted_until
  OwnedFd running_;            // the other end of until_stopped()'s pipe
  bool adopted_ = false;       // another process may still use the descriptors
  bool aside_ = false;         // see step_aside
  bool diverted_ = false;      // and what belongs to it has been said to the kernel
  OwnedFd diversion_;          // see put_port_diversion
  bool closed_ = false;
};

}  // namespace flannelette
