#include "engine/engine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "sys/port_diversion.h"
#include "sys/privileges.h"
#include "sys/retry.h"
#include "sys/scheduling.h"
#include "sys/thread_filter.h"
#include "sys/udp_socket.h"

namespace flannelette {

namespace {

FeatureSet used_by(const EngineOptions& options) {
  const FeatureSet always =
      feature_bit(KernelFeature::kSeccomp) |
      (options.workers > 2 ? feature_bit(KernelFeature::kMultiqueue) : FeatureSet{0});
  const FeatureSet trains = kAllFeatures & ~feature_bit(KernelFeature::kSeccomp) &
                            ~feature_bit(KernelFeature::kMultiqueue) &
                            ~feature_bit(KernelFeature::kFou) &
                            ~feature_bit(KernelFeature::kKernelPath);
  switch (options.mode) {
    case Mode::kBasic:
      return always;
    case Mode::kBatch:
      return always | feature_bit(KernelFeature::kMmsg);
    case Mode::kOffload:
      return always | trains;
    case Mode::kKernel:
      return always | trains | feature_bit(KernelFeature::kKernelPath);
  }
  return 0;
}

// Switches off what the socket refuses.
void try_udp_features(int fd, FeatureSwitches& features) {
  // It may be on from another mode.
  if (!features.on(KernelFeature::kUdpGro)) disable_udp_gro(fd);
  if (features.on(KernelFeature::kUdpGso)) {
    const int number = check_udp_gso(fd);
    if (number != 0) features.refuse(KernelFeature::kUdpGso, number);
  }
  if (features.on(KernelFeature::kUdpGro)) {
    const int number = enable_udp_gro(fd);
    if (number != 0) features.refuse(KernelFeature::kUdpGro, number);
  }
}

size_t wanted_pairs(const EngineOptions& options) {
  const FeatureSwitches features(used_by(options), options.disabled);
  return features.on(KernelFeature::kMultiqueue) ? options.workers / 2 : 1;
}

// Opens the device for several queues if the switches want them. Kernels before 3.8 ignore the
// request, and refuse the second queue.
Result<Tun> open_device(TunOptions options, FeatureSwitches& features) {
  constexpr KernelFeature kQueues = KernelFeature::kMultiqueue;
  options.multi_queue = features.on(kQueues);
  auto tun = Tun::open(options);
  if (tun.ok() || !options.multi_queue || tun.error().number != EINVAL) return tun;
  features.refuse(kQueues, EINVAL);
  options.multi_queue = false;
  return Tun::open(options);
}

bool wants_vnet_header(const FeatureSwitches& features) {
  return features.on(KernelFeature::kTunTso) || features.on(KernelFeature::kTunUso);
}

// As much offload as the switches want and the kernel grants: 0, or the errno of the last refusal
// when it grants none, which is then switched off.
int use_offload(const Tun& tun, FeatureSwitches& features) {
  constexpr KernelFeature kTcp = KernelFeature::kTunTso;
  constexpr KernelFeature kUdp = KernelFeature::kTunUso;
  int number = 0;
  if (features.on(kUdp)) {
    const int refused = tun.set_offload(features.on(kTcp), true);
    if (refused != 0) features.refuse(kUdp, refused);
  }
  if (!features.on(kUdp)) number = features.on(kTcp) ? tun.set_offload(true, false) : EOPNOTSUPP;
  if (number != 0) features.refuse(kTcp, number);
  return number;
}

// Opens the device with as much offload as the switches want and the kernel grants.
Result<Tun> open_tun(const std::string& name, FeatureSwitches& features, bool& vnet_header) {
  TunOptions options;
  options.name = name;
  vnet_header = options.vnet_header = wants_vnet_header(features);
  if (vnet_header) {
    auto tun = open_device(options, features);
    const int number = tun.ok() ? use_offload(tun.value(), features) : tun.error().number;
    if (!tun.ok() && number != EINVAL && number != EOPNOTSUPP) return tun;
    if (number == 0) return tun;
    features.refuse(KernelFeature::kTunTso, number);
    features.refuse(KernelFeature::kTunUso, number);
  }
  vnet_header = options.vnet_header = false;
  return open_device(options, features);
}

// Sockets and queues for `pairs` pairs, or for one where the kernel refuses more.
void add_pairs(const EngineOptions& options, size_t pairs, Tun& tun, std::vector<OwnedFd>& sockets,
               FeatureSwitches& features) {
  constexpr KernelFeature kQueues = KernelFeature::kMultiqueue;
  if (!features.on(kQueues)) return;
  int number = add_udp_sockets(sockets, pairs, options.bind_address, bound_port(sockets[0].get()),
                               options.socket_buffer_bytes);
  if (number == 0) number = tun.add_queues(pairs);
  if (number == 0) return;
  features.refuse(kQueues, number);
  leave_one_udp_socket(sockets);
}

void use_sockets(const std::vector<OwnedFd>& sockets, FeatureSwitches& features) {
  // A train cannot be taken apart in front of the socket, so none must be made there: not UDP_GRO
  // beside the kernel's own way, which enables it when it fails.
  if (features.on(KernelFeature::kKernelPath)) features.leave(KernelFeature::kUdpGro);
  for (const OwnedFd& socket : sockets) try_udp_features(socket.get(), features);
}

DeviceSettings settings_from(const EngineOptions& options) {
  return {.address = options.tun_address,
          .mtu = options.mtu,
          .queue_packets = options.tun_queue_packets,
          .overlay = options.overlay};
}

// What a process that had the port has left in the kernel.
void clear_left(const EngineOptions& options) {
  KernelPath::clear(options.bind_address, options.port);
  (void)remove_port_diversion(options.bind_address, options.port);
}

bool has_one_cpu() {
  auto usable = usable_cpus();
  return usable.ok() && usable.value().size() == 1;
}

std::vector<OwnedFd> owned(const std::vector<int>& fds) {
  std::vector<OwnedFd> out;
  out.reserve(fds.size());
  for (const int fd : fds) out.emplace_back(fd);
  return out;
}

// An address of the overlay outside this host's subnet, where there is one.
uint32_t beyond(Subnet overlay, Subnet own) {
  const uint32_t first = overlay.network + 1;
  return own.contains(first) ? overlay.broadcast() - 1 : first;
}

}  // namespace

struct Engine::Parts {
  std::optional<Tun> tun = {};
  bool vnet_header = false;
  std::unique_ptr<FeatureSwitches> features;
  std::vector<OwnedFd> udp = {};
  std::vector<OwnedFd> sources = {};
  OwnedFd raw = {};
  OwnedFd stop_event = {};
  std::optional<EventPipe> events = {};
};

Result<Engine::Parts> Engine::open_parts(const EngineOptions& options) {
  Parts parts{.features = std::make_unique<FeatureSwitches>(used_by(options), options.disabled)};
  while (parts.sources.size() + 1 < options.source_ports) {
    auto source = open_send_socket(options.bind_address, options.socket_buffer_bytes);
    if (!source.ok()) return std::move(source.error());
    parts.sources.push_back(std::move(source.value()));
  }
  auto raw = open_raw_socket();
  if (!raw.ok()) return std::move(raw.error());
  parts.raw = std::move(raw.value());
  auto events = EventPipe::open();
  if (!events.ok()) return std::move(events.error());
  parts.events = std::move(events.value());
  parts.stop_event = OwnedFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!parts.stop_event.valid()) return Error{errno, "eventfd", ""};

  // Told with the other features; the threads may still be refused it.
  if (parts.features->on(KernelFeature::kSeccomp)) {
    if (const int number = check_seccomp(); number != 0)
      (void)parts.features->refuse(KernelFeature::kSeccomp, number);
  }
  return parts;
}

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options, Io& io) {
  if (!options.adopted_tun.empty() || !options.adopted_udp.empty()) return adopt(options, io);
  if (options.aside && options.mode == Mode::kKernel)
    return Error{EOPNOTSUPP, "open", "aside in mode kernel"};
  // The socket first: a taken port must not make a device come and go.
  auto udp = open_udp_socket(options.bind_address, options.aside ? 0 : options.port,
                             options.socket_buffer_bytes);
  if (!udp.ok()) return std::move(udp.error());
  // With the port ours, what a killed predecessor left is no running daemon's.
  if (!options.aside) clear_left(options);
  auto opened = open_parts(options);
  if (!opened.ok()) return std::move(opened.error());
  Parts parts = std::move(opened.value());
  auto tun = open_tun(options.tun_name, *parts.features, parts.vnet_header);
  if (!tun.ok()) return std::move(tun.error());
  parts.udp.push_back(std::move(udp.value()));
  add_pairs(options, options.workers / 2, tun.value(), parts.udp, *parts.features);
  use_sockets(parts.udp, *parts.features);
  if (auto error = tun.value().configure(settings_from(options), !options.aside))
    return std::move(*error);
  parts.tun = std::move(tun.value());

  std::unique_ptr<Engine> engine(new Engine(options, io, std::move(parts)));
  if (!engine->has_memory()) return Error{ENOMEM, "packet memory", ""};
  engine->open_kernel_share();
  return engine;
}

Result<std::unique_ptr<Engine>> Engine::adopt(EngineOptions options, Io& io) {
  std::vector<OwnedFd> queues = owned(std::exchange(options.adopted_tun, {}));
  std::vector<OwnedFd> sockets = owned(std::exchange(options.adopted_udp, {}));
  std::vector<OwnedFd> left = owned(std::exchange(options.adopted_links, {}));
  OwnedFd until(std::exchange(options.adopted_until, -1));
  const size_t pairs = queues.size();
  if (pairs == 0 || pairs > kQueuePairsMax || sockets.size() != pairs)
    return Error{EINVAL, "adopt", "a queue and a socket for each pair"};
  if (!until.valid() && pairs != wanted_pairs(options))
    return Error{EINVAL, "adopt", "another number of queue pairs"};
  options.workers = pairs == 1 ? std::min<size_t>(options.workers, 2) : 2 * pairs;
  for (const OwnedFd& socket : sockets) {
    const int number = adopt_udp_socket(socket.get(), options.bind_address, options.port,
                                        options.socket_buffer_bytes);
    if (number != 0) return Error{number, "adopt", "UDP socket"};
  }
  auto tun = Tun::adopt(std::move(queues));
  if (!tun.ok()) return std::move(tun.error());
  auto opened = open_parts(options);
  if (!opened.ok()) return std::move(opened.error());
  Parts parts = std::move(opened.value());
  parts.vnet_header = tun.value().vnet_header();
  if (!until.valid() && wants_vnet_header(*parts.features) != parts.vnet_header)
    return Error{EINVAL, "adopt", "the virtio header is not as the mode needs it"};
  parts.tun = std::move(tun.value());
  parts.udp = std::move(sockets);
  std::unique_ptr<Engine> engine(new Engine(options, io, std::move(parts)));
  if (!engine->has_memory()) return Error{ENOMEM, "packet memory", ""};
  engine->adopted_ = true;
  engine->left_ = std::move(left);
  engine->until_ = std::move(until);
  return engine;
}

bool Engine::has_predecessor() const {
  if (!until_.valid()) return false;
  pollfd hung_up = {until_.get(), 0, 0};
  return retry_interrupted([&] { return ::poll(&hung_up, 1, 0); }) == 0;
}

// Whether the mode needs nothing of device and sockets that their present user could not go on
// with.
bool Engine::fits() const {
  if (options_.mode == Mode::kKernel || wants_vnet_header(*features_) != vnet_header_) return false;
  return std::all_of(udp_.begin(), udp_.end(), [&](const OwnedFd& socket) {
    return has_udp_gro(socket.get()) == features_->on(KernelFeature::kUdpGro);
  });
}

Status Engine::take_charge() {
  if (!has_predecessor()) {
    until_.reset();
    if (left_.empty()) KernelPath::clear(options_.bind_address, options_.port);
  } else if (!fits()) {
    return Error{EBUSY, "start", "another process uses the descriptors in another mode"};
  }
  adopted_ = false;
  // One that was killed may have left its own.
  (void)filter_sources(false);
  for (const OwnedFd& socket : udp_) drops_before_.push_back(socket_drops(socket.get()));
  if (auto error = change_mode(options_.mode)) return error;
  // Otherwise it goes on until this engine's own share knows the hosts.
  if (!features_->on(KernelFeature::kKernelPath) && !left_.empty()) {
    end_left();
    KernelPath::clear(options_.bind_address, options_.port);
  }
  return tun_->configure(settings_);
}

void Engine::end_left() {
  if (left_.empty()) return;
  KernelPath::end_left(std::exchange(left_, {}), options_.bind_address, options_.port);
}

bool Engine::has_memory() const {
  const auto has = [](const auto& direction) { return direction->has_memory(); };
  return std::all_of(encapsulations_.begin(), encapsulations_.end(), has) &&
         std::all_of(decapsulations_.begin(), decapsulations_.end(), has);
}

Engine::Engine(const EngineOptions& options, Io& io, Parts parts)
    : options_(options),
      io_(io),
      tun_name_(parts.tun->name()),
      settings_(settings_from(options)),
      probe_(beyond(options.overlay, options.own)),
      features_(std::move(parts.features)),
      vnet_header_(parts.vnet_header),
      table_(std::make_unique<const ForwardingTable>()),
      events_(std::move(*parts.events)),
      stop_event_(std::move(parts.stop_event)),
      raw_(std::move(parts.raw)),
      udp_(std::move(parts.udp)),
      sources_(std::move(parts.sources)),
      tun_(std::make_unique<Tun>(std::move(*parts.tun))),
      aside_(options.aside) {
  open_path_mtu();
  make_directions();
}

void Engine::open_path_mtu() {
  auto opened = PathMtu::open(io_,
                              {.local = options_.bind_address,
                               .port = options_.port,
                               .tun_address = options_.tun_address,
                               .mtu = options_.mtu,
                               .hold_ns = uint64_t{options_.path_mtu_seconds} * 1'000'000'000,
                               .events = &events_},
                              raw_.get());
  // Without it the kernel goes on to learn, from ICMP.
  if (!opened.ok()) return;
  path_mtu_ = std::move(opened.value());
  for (const OwnedFd& socket : udp_) (void)ignore_path_mtu(socket.get());
  for (const OwnedFd& socket : sources_) (void)ignore_path_mtu(socket.get());
}

void Engine::make_directions() {
  for (size_t pair = 0; pair < udp_.size() && has_memory(); ++pair) {
    encapsulations_.push_back(std::make_unique<Encapsulation>(context(pair)));
    decapsulations_.push_back(std::make_unique<Decapsulation>(context(pair)));
  }
  if (has_memory()) plan_workers();
}

void Engine::open_kernel_share() {
  if (!features_->on(KernelFeature::kKernelPath)) return;
  // One that was closed before has counted.
  if (!kernel_share_)
    kernel_share_.emplace(KernelPathOptions{.local = options_.bind_address,
                                            .port = options_.port,
                                            .own = options_.own,
                                            .source_check = options_.source_check},
                          path_mtu_.get());
  if (const int number = kernel_share_->open(tun_->ifindex(), !left_.empty()); number != 0)
    give_up_kernel_share(number);
}

void Engine::give_up_kernel_share(int number) {
  kernel_share_->close();
  (void)features_->refuse(KernelFeature::kKernelPath, number);
  // Nothing is lost when that fails: trains come as single datagrams.
  if (!features_->use(KernelFeature::kUdpGro)) return;
  for (const OwnedFd& socket : udp_) {
    if (const int refused = enable_udp_gro(socket.get()); refused != 0)
      (void)features_->refuse(KernelFeature::kUdpGro, refused);
  }
}

void Engine::maintain_kernel_share() {
  if (!kernel_share_ || !features_->on(KernelFeature::kKernelPath)) return;
  const int number = kernel_share_->maintain();
  if (number == 0) return;
  give_up_kernel_share(number);
  (void)events_.write({EventType::kFeatureRefused, static_cast<uint32_t>(number),
                       static_cast<uint32_t>(KernelFeature::kKernelPath), 0});
}

void Engine::count_kernel_share() {
  if (!kernel_share_) return;
  const KernelPathCounters now = kernel_share_->counters();
  encapsulations_[0]->count_kernel(now.sent_packets, now.sent_bytes);
  decapsulations_[0]->count_kernel(now.received_packets, now.received_bytes);
}

void Engine::plan_workers() {
  if (options_.workers == 1) {
    workers_.push_back({encapsulations_[0].get(), decapsulations_[0].get(), "fl-tunnel"});
  } else {
    for (size_t pair = 0; pair < udp_.size(); ++pair) {
      const std::string number = std::to_string(pair);
      workers_.push_back({encapsulations_[pair].get(), nullptr, "fl-encap-" + number});
      workers_.push_back({decapsulations_[pair].get(), nullptr, "fl-decap-" + number});
    }
  }
  for (size_t i = 0; i < workers_.size() && !options_.cpus.empty(); ++i)
    workers_[i].cpu = static_cast<int>(options_.cpus[i % options_.cpus.size()]);
}

DirectionContext Engine::context(size_t pair) {
  std::vector<int> source_fds;
  for (const OwnedFd& source : sources_) source_fds.push_back(source.get());
  return {
      .io = io_,
      .pair = pair,
      .tun_fd = tun_->fd(pair),
      .udp_fd = udp_[pair].get(),
      .source_fds = std::move(source_fds),
      .raw_fd = raw_.get(),
      .stop_fd = stop_event_.get(),
      .stop = stop_,
      .table = table_,
      .events = events_,
      .features = *features_,
      .vnet_header = vnet_header_,
      .mode = options_.mode,
      .tun_address = options_.tun_address,
      .overlay = options_.overlay,
      .own = options_.own,
      .port = options_.port,
      .mtu = options_.mtu,
      .path_mtus = path_mtu_ ? &path_mtu_->table() : nullptr,
      .path_mtu_fd = path_mtu_ ? path_mtu_->wake_fd() : -1,
      .source_check = options_.source_check,
      .ring_bytes = options_.ring_bytes,
      .one_cpu = has_one_cpu(),
  };
}

Status Engine::start() {
  if (closed_) return Error{EBADF, "start", "closed"};
  if (started_ != 0) return Error{EALREADY, "start", ""};
  if (adopted_) {
    if (auto error = take_charge()) {
      if (error->number != EBUSY) close();
      return error;
    }
  }
  if (aside_ && !diverted_) {
    if (auto error = divert(udp_[0])) {
      close();
      return error;
    }
  }
  for (Worker& worker : workers_) {
    worker.until_fd = until_.get();
    worker.stop_fd = stop_event_.get();
    if (auto error =
            start_thread(worker.thread, worker.name, worker.cpu, &Engine::run_worker, &worker)) {
      close();
      return error;
    }
    ++started_;
  }
  if (!path_mtu_) return std::nullopt;
  auto error = start_thread(path_mtu_thread_, "path-mtu", -1, &Engine::run_path_mtu, this);
  path_mtu_started_ = !error;
  if (error) close();
  return error;
}

void* Engine::run_path_mtu(void* engine) {
  auto* self = static_cast<Engine*>(engine);
  (void)drop_all_capabilities();
  if (self->features_->on(KernelFeature::kSeccomp)) (void)filter_packet_thread();
  self->path_mtu_->run(self->stop_, self->stop_event_.get());
  return nullptr;
}

void* Engine::run_worker(void* worker) {
  (void)ask_for_short_turns();
  const auto* work = static_cast<const Worker*>(worker);
  if (work->until_fd >= 0) {
    pollfd fds[2] = {{work->until_fd, 0, 0}, {work->stop_fd, POLLIN, 0}};
    (void)retry_interrupted([&] { return ::poll(fds, 2, -1); });
  }
  // What it works on is open: nothing it does from here on takes a privilege.
  work->first->confine_thread();
  work->first->carry(work->second);
  return nullptr;
}

void Engine::stop_threads() {
  stop_.store(true, std::memory_order_relaxed);
  // Not read before they are joined, so that it stays readable for every waiter.
  (void)retry_interrupted([&] { return ::eventfd_write(stop_event_.get(), 1); });
  for (size_t i = 0; i < started_; ++i) ::pthread_join(workers_[i].thread, nullptr);
  started_ = 0;
  if (std::exchange(path_mtu_started_, false)) ::pthread_join(path_mtu_thread_, nullptr);
}

// With the virtio header or without, as the switches want and the kernel grants.
Status Engine::reopen_device() {
  const bool wanted = wants_vnet_header(*features_);
  if (!wanted) tun_->leave_offload();
  int number = wanted == vnet_header_ ? 0 : tun_->reopen(wanted);
  vnet_header_ = wanted;
  if (number == 0 && wanted && use_offload(*tun_, *features_) != 0) {
    number = tun_->reopen(false);
    vnet_header_ = false;
  }
  if (number != 0) return Error{number, "changeMode", tun_name_};
  tun_name_ = tun_->name();
  return std::nullopt;
}

Status Engine::change_mode(Mode mode) {
  if (closed_) return Error{EBADF, "changeMode", "closed"};
  const bool was_started = started_ != 0;
  stop_threads();
  if (kernel_share_) kernel_share_->close();
  options_.mode = mode;
  features_ = std::make_unique<FeatureSwitches>(used_by(options_), options_.disabled);
  if (auto error = reopen_device()) {
    close();
    return error;
  }
  use_sockets(udp_, *features_);
  workers_.clear();
  auto encapsulations = std::exchange(encapsulations_, {});
  auto decapsulations = std::exchange(decapsulations_, {});
  eventfd_t signalled = 0;
  (void)::eventfd_read(stop_event_.get(), &signalled);
  stop_.store(false, std::memory_order_relaxed);
  make_directions();
  if (!has_memory()) {
    encapsulations_ = std::move(encapsulations);
    decapsulations_ = std::move(decapsulations);
    close();
    return Error{ENOMEM, "packet memory", ""};
  }
  for (size_t pair = 0; pair < encapsulations_.size(); ++pair) {
    encapsulations_[pair]->count_on_from(encapsulations[pair]->counters());
    decapsulations_[pair]->count_on_from(decapsulations[pair]->counters());
  }
  open_kernel_share();
  return was_started ? start() : std::nullopt;
}

// As many as there are.
Result<std::vector<OwnedFd>> Engine::open_sockets(uint16_t port) const {
  const uint32_t address = options_.bind_address;
  const int bytes = options_.socket_buffer_bytes;
  auto first = open_udp_socket(address, port, bytes);
  if (!first.ok()) return std::move(first.error());
  std::vector<OwnedFd> sockets;
  sockets.push_back(std::move(first.value()));
  const uint16_t bound = bound_port(sockets[0].get());
  const int number =
      udp_.size() == 1 ? 0 : add_udp_sockets(sockets, udp_.size(), address, bound, bytes);
  if (number != 0) return Error{number, "bind", std::to_string(bound)};
  return sockets;
}

// The threads read the new ones from now on, and what the others had has been read.
Status Engine::change_sockets(std::vector<OwnedFd> sockets) {
  const bool was_started = started_ != 0;
  if (was_started) await_empty(udp_fds());
  stop_threads();
  drops_before_.resize(udp_.size());
  for (size_t pair = 0; pair < udp_.size(); ++pair)
    if (const auto dropped = drops_since_taken(pair)) drops_before_[pair] = 0 - *dropped;
  udp_ = std::move(sockets);
  if (path_mtu_)
    for (const OwnedFd& socket : udp_) (void)ignore_path_mtu(socket.get());
  if (admitted_) (void)filter_sources(true);
  if (auto error = change_mode(options_.mode)) return error;
  return was_started ? start() : std::nullopt;
}

Status Engine::step_aside() {
  if (closed_) return Error{EBADF, "stepAside", "closed"};
  if (aside_) return Error{EALREADY, "stepAside", ""};
  if (adopted_ || running_.valid())
    return Error{EBUSY, "stepAside", "another process uses the descriptors"};
  if (options_.mode == Mode::kKernel) return Error{EOPNOTSUPP, "stepAside", "mode kernel"};
  auto sockets = open_sockets(0);
  if (!sockets.ok()) return std::move(sockets.error());
  if (auto error = divert(sockets.value()[0])) {
    (void)tun_->join_route(options_.overlay);
    return error;
  }
  aside_ = true;
  return change_sockets(std::move(sockets.value()));
}

// Port and routes lead here beside another program's.
Status Engine::divert(const OwnedFd& to) {
  if (auto error = tun_->split_route(options_.overlay)) return error;
  auto diversion = put_port_diversion(options_.bind_address, options_.port, bound_port(to.get()));
  if (!diversion.ok()) {
    tun_->leave_route(options_.overlay);
    return diversion.error();
  }
  diversion_ = std::move(diversion.value());
  diverted_ = true;
  return std::nullopt;
}

void Engine::end_diversion() {
  aside_ = diverted_ = false;
  diversion_.reset();
  (void)remove_port_diversion(options_.bind_address, options_.port);
}

Status Engine::step_back() {
  if (!aside_) return Error{EINVAL, "stepBack", "it is not aside"};
  auto sockets = open_sockets(options_.port);
  if (!sockets.ok()) return std::move(sockets.error());
  end_diversion();
  KernelPath::clear(options_.bind_address, options_.port);
  if (auto error = tun_->join_route(options_.overlay)) return error;
  return change_sockets(std::move(sockets.value()));
}

void Engine::leave_port() {
  if (!aside_ || !diverted_) return;
  end_diversion();
  tun_->leave_route(options_.overlay);
  if (started_ == 0) return;
  std::vector<int> queues = tun_fds();
  for (const OwnedFd& socket : udp_) queues.push_back(socket.get());
  await_empty(queues);
}

void Engine::leave() {
  if (kernel_share_) kernel_share_->leave();
  close();
}

std::vector<int> Engine::kernel_path_fds() const {
  return kernel_share_ ? kernel_share_->links() : std::vector<int>();
}

void Engine::close() {
  if (closed_) return;
  leave_port();
  closed_ = true;
  if (kernel_share_) {
    kernel_share_->close();
    count_kernel_share();
  }
  stop_threads();
  running_.reset();
  until_.reset();
  left_.clear();
  // Now, and not when the object goes: a garbage collector may take its time.
  path_mtu_.reset();
  udp_.clear();
  sources_.clear();
  raw_.reset();
  tun_.reset();
  stop_event_.reset();
  events_.close();
}

Result<EngineDeviceCheck> Engine::restore_device() {
  if (closed_) return Error{EBADF, "restoreDevice", "closed"};
  maintain_kernel_share();
  auto checked = tun_->check(settings_, probe_);
  if (!checked.ok()) return std::move(checked.error());
  EngineDeviceCheck out{std::move(checked.value())};
  if (out.device.lookup.error != 0 && probe_is_routed_) out.refused = probe_;
  return out;
}

const QueueDrops& Engine::queue_drops() {
  if (closed_) return drops_;
  drops_.udp.resize(udp_.size());
  for (size_t pair = 0; pair < udp_.size(); ++pair) drops_.udp[pair] = drops_since_taken(pair);
  if (auto link = tun_->link(); link.ok()) drops_.tun = link.value().queue_drops;
  return drops_;
}

std::optional<uint64_t> Engine::drops_since_taken(size_t pair) const {
  const auto now = socket_drops(udp_[pair].get());
  if (!now || pair >= drops_before_.size() || !drops_before_[pair]) return now;
  return *now - *drops_before_[pair];
}

QueueSizes Engine::queue_sizes() const {
  if (closed_) return {};
  auto link = tun_->link();
  return {socket_buffers(udp_[0].get()), link.ok() ? link.value().queue_packets : 0};
}

std::vector<int> Engine::tun_fds() const {
  std::vector<int> out;
  for (size_t queue = 0; tun_ && queue < tun_->queues(); ++queue) out.push_back(tun_->fd(queue));
  return out;
}

Result<OwnedFd> Engine::until_stopped() {
  if (closed_) return Error{EBADF, "sendDescriptors", "closed"};
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) < 0) return Error{errno, "pipe2", ""};
  running_ = OwnedFd(ends[1]);
  (void)filter_sources(false);
  return OwnedFd(ends[0]);
}

std::vector<int> Engine::udp_fds() const {
  std::vector<int> out;
  for (const OwnedFd& socket : udp_) out.push_back(socket.get());
  return out;
}

void Engine::change_routes(std::span<const Route> changes) {
  for (const Route& change : changes) {
    if (change.next_hop != 0) {
      routes_.set(change);
      probe_ = change.subnet.network + 1;
      probe_is_routed_ = true;
    } else {
      routes_.remove(change.subnet);
      if (change.subnet.contains(probe_)) probe_is_routed_ = false;
    }
  }
  table_.publish(std::make_unique<const ForwardingTable>(routes_));
  const auto is_stranger = [&](const Route& change) {
    return change.next_hop != 0 && !covers(*admitted_, change.next_hop);
  };
  if (admitted_ && std::any_of(changes.begin(), changes.end(), is_stranger))
    (void)filter_sources(true);
  if (path_mtu_) path_mtu_->change_routes(changes);
  if (kernel_share_) kernel_share_->change(changes);
  if (!adopted_) end_left();
}

Status Engine::filter_sources(bool on) {
  if (closed_) return Error{EBADF, "filterSources", "closed"};
  if (adopted_ || (on && running_.valid()))
    return Error{EBUSY, "filterSources", "another process uses the sockets"};
  const int number = on ? admit_next_hops() : 0;
  if (on && number == 0) return std::nullopt;
  admitted_.reset();
  for (const OwnedFd& socket : udp_) (void)detach_source_filter(socket.get());
  if (number != 0) return Error{number, "setsockopt SO_ATTACH_FILTER", ""};
  return std::nullopt;
}

int Engine::admit_next_hops() {
  admitted_ = cover(routes_.next_hops(), kFilterRangesMax);
  for (const OwnedFd& socket : udp_)
    if (const int number = attach_source_filter(socket.get(), *admitted_); number != 0)
      return number;
  return 0;
}

uint32_t Engine::lookup(uint32_t address) {
  const uint32_t next_hop = table_.enter(kControlReader).lookup(address);
  table_.leave(kControlReader);
  return next_hop;
}

}  // namespace flannelette
