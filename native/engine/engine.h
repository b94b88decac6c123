// The data plane of one host: a TUN device, a UDP socket, and a thread per direction between them.
//
// Owned and called by one control thread; the two data-plane threads touch nothing of it but what
// DirectionContext names. An engine is opened, started once and closed; a restart is a new engine.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "engine/decapsulation.h"
#include "engine/encapsulation.h"
#include "sys/tun.h"

namespace flannelette {

struct EngineOptions {
  std::string tun_name = "flannel%d";
  uint32_t tun_address = 0;  // set with prefix length 32
  Subnet overlay;
  Subnet own;
  uint32_t mtu = 1472;        // of the TUN, bytes
  uint32_t bind_address = 0;  // of the UDP socket
  uint16_t port = 8285;
  Mode mode = Mode::kBatch;
  FeatureSet disabled = 0;  // optional kernel features to do without
  bool source_check = true;
  int socket_buffer_bytes = 0;  // 0: the kernel's default
};

class Engine {
 public:
  // Binds the socket and sets the device up; on failure nothing is left behind.
  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options, Io& io = kernel_io());
  ~Engine() { close(); }
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Starts the threads. EALREADY when started, EBADF when closed, else pthread_create's errno.
  Status start();
  // Stops and joins the threads (well under 1 s), removes the device, closes the socket.
  // Idempotent.
  void close();

  // Restores what the device has lost (Tun::restore). EBADF when closed.
  Result<bool> restore_device();

  // Publishes the routes with these changes made, in their order: a next hop of 0 takes the route
  // to exactly that subnet away. Costs a few microseconds a change, whatever the number of routes.
  void change_routes(std::span<const Route> changes);
  // The next hop the data plane would use now; 0 for none.
  uint32_t lookup(uint32_t address);

  const FeatureSwitches& features() const { return *features_; }
  const std::string& tun_name() const { return tun_name_; }
  int take_event_fd() { return events_.take_read_end(); }
  const Direction& encapsulation() const { return *encapsulation_; }
  const Direction& decapsulation() const { return *decapsulation_; }

 private:
  struct Parts;
  Engine(const EngineOptions& options, Io& io, Parts parts);
  DirectionContext context(const EngineOptions& options, Io& io);
  static void* run_direction(void* direction);

  // In the order of use: the directions, made last, go first.
  std::string tun_name_;
  uint32_t tun_address_;
  Subnet overlay_;
  std::unique_ptr<FeatureSwitches> features_;
  bool vnet_header_;
  std::atomic<bool> stop_{false};
  ForwardingTable routes_;  // the control thread's; what is published are copies
  PublishedTable table_;
  EventPipe events_;
  OwnedFd stop_event_;
  OwnedFd raw_;
  OwnedFd udp_;
  std::unique_ptr<Tun> tun_;
  std::unique_ptr<Encapsulation> encapsulation_;
  std::unique_ptr<Decapsulation> decapsulation_;
  std::array<pthread_t, 2> threads_{};
  size_t started_ = 0;
  bool closed_ = false;
};

}  // namespace flannelette
