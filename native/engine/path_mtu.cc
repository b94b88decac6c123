#include "engine/path_mtu.h"

#include <sys/eventfd.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>

#include "core/path_mtu_probe.h"
#include "sys/udp_socket.h"

namespace flannelette {

namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kLookAgain = kSecond;
// A path that takes full-size packets, and one that answers nothing, is looked at again this soon.
constexpr uint64_t kFullHold = 60 * kSecond;
// Searches at once: 8 probes each, so 256 packets in a round.
constexpr size_t kActiveMax = 32;
constexpr size_t kRepliesInARow = 256;

uint64_t random_number() {
  uint64_t out = 0;
  // Of 8 bytes, never less once the kernel has started (getrandom(2)).
  (void)!::getrandom(&out, sizeof(out), 0);
  return out;
}

}  // namespace

Result<std::unique_ptr<PathMtu>> PathMtu::open(Io& io, const PathMtuSettings& settings,
                                               int raw_fd) {
  const auto identifier = static_cast<uint16_t>(random_number());
  auto echo = open_echo_socket(identifier);
  if (!echo.ok()) return std::move(echo.error());
  OwnedFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return Error{errno, "eventfd", ""};
  return std::unique_ptr<PathMtu>(
      new PathMtu(io, settings, raw_fd, identifier, std::move(echo.value()), std::move(wake)));
}

PathMtu::PathMtu(Io& io, const PathMtuSettings& settings, int raw_fd, uint16_t identifier,
                 OwnedFd echo, OwnedFd wake)
    : io_(io),
      settings_(settings),
      raw_fd_(raw_fd),
      identifier_(identifier),
      echo_(std::move(echo)),
      wake_(std::move(wake)),
      buffer_(ip::kPacketMax) {}

void PathMtu::change_routes(std::span<const Route> changes) {
  const std::lock_guard<std::mutex> lock(routes_mutex_);
  for (const Route& change : changes) {
    if (change.next_hop != 0) {
      peers_[change.next_hop] = change.subnet.network;
      holders_[change.subnet.network] = change.next_hop;
    } else if (const auto holder = holders_.find(change.subnet.network); holder != holders_.end()) {
      const auto peer = peers_.find(holder->second);
      if (peer != peers_.end() && peer->second == change.subnet.network) peers_.erase(peer);
      holders_.erase(holder);
    }
  }
}

uint16_t PathMtu::find(uint32_t host) {
  const uint16_t known = table_.use(host);
  if (known == 0 && table_.want(host)) (void)::eventfd_write(wake_.get(), 1);
  return known;
}

void PathMtu::run(const std::atomic<bool>& stop, int stop_fd) {
  while (!stop.load(std::memory_order_relaxed)) {
    const int timeout_ms = step();
    pollfd fds[] = {{stop_fd, POLLIN, 0}, {wake_.get(), POLLIN, 0}, {echo_.get(), POLLIN, 0}};
    if (io_.poll(fds, 3, timeout_ms) < 0) io_.sleep_ms(20);
    if ((fds[1].revents & POLLIN) == 0) continue;
    eventfd_t times = 0;
    (void)::eventfd_read(wake_.get(), &times);
  }
}

int PathMtu::step() {
  const uint64_t now = io_.now_ns();
  read_replies(now);
  collect(now);
  for (Active& active : active_)
    for (const uint16_t size : active.search.send(now)) send(active, size);
  for (const Active& active : active_)
    if (active.search.state() != PathMtuSearch::State::kSearching) conclude(active, now);
  std::erase_if(active_, [](const Active& active) {
    return active.search.state() != PathMtuSearch::State::kSearching;
  });
  uint64_t due = table_.wanted().empty() ? std::max(next_end_ns_, next_look_ns_) : next_look_ns_;
  for (const Active& active : active_) due = std::min(due, active.search.due_ns());
  if (due == kNever) return -1;
  return due <= now ? 0 : static_cast<int>((due - now) / 1'000'000 + 1);
}

void PathMtu::read_replies(uint64_t now) {
  for (size_t i = 0; i < kRepliesInARow; ++i) {
    iovec bytes{buffer_.data(), buffer_.size()};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    const ssize_t received = io_.recvmsg(echo_.get(), &message);
    if (received < 0) return;
    const auto reply = read_path_mtu_reply(std::span(buffer_).first(static_cast<size_t>(received)));
    if (!reply) continue;
    for (Active& active : active_)
      if (active.peer == reply->source && active.secret == reply->secret)
        active.search.answered(reply->size, now);
  }
}

void PathMtu::collect(uint64_t now) {
  for (const uint32_t host : table_.wanted()) consider(host, now);
  if (now < next_look_ns_) return;
  next_look_ns_ = now + kLookAgain;
  table_.forget_wanted();
  std::vector<uint32_t> over;
  for (const auto& [host, known] : known_)
    if (known.until_ns <= now) over.push_back(host);
  for (const uint32_t host : over) {
    if (searches(host)) continue;
    if (table_.used(host) && peer_of(host) != 0) {
      consider(host, now);
    } else {
      tell(host, static_cast<uint16_t>(settings_.mtu), known_[host].size);
      table_.erase(host);
      known_.erase(host);
    }
  }
  next_end_ns_ = kNever;
  for (const auto& [host, known] : known_) next_end_ns_ = std::min(next_end_ns_, known.until_ns);
}

void PathMtu::consider(uint32_t host, uint64_t now) {
  if (active_.size() == kActiveMax || settings_.mtu <= PathMtuTable::kAlwaysFits || searches(host))
    return;
  const auto known = known_.find(host);
  if (known != known_.end() && known->second.until_ns > now) return;
  const uint32_t peer = peer_of(host);
  if (peer == 0) return;
  // Room for what will be found; until then the path is as good as any.
  if (known == known_.end() && !table_.put(host, static_cast<uint16_t>(settings_.mtu))) return;
  active_.push_back(
      {host, peer, random_number(),
       PathMtuSearch(PathMtuTable::kAlwaysFits, static_cast<uint16_t>(settings_.mtu), now)});
}

void PathMtu::send(const Active& active, uint16_t size) {
  const size_t length = write_path_mtu_probe({.outer_source = settings_.local,
                                              .outer_destination = active.host,
                                              .port = settings_.port,
                                              .inner_source = settings_.tun_address,
                                              .inner_destination = active.peer,
                                              .identifier = identifier_,
                                              .secret = active.secret,
                                              .size = size},
                                             buffer_);
  // One that is refused is one without an answer.
  (void)send_raw(io_, raw_fd_, active.host, std::span(buffer_).first(length));
}

void PathMtu::conclude(const Active& active, uint64_t now) {
  const bool found = active.search.state() == PathMtuSearch::State::kFound;
  const auto full = static_cast<uint16_t>(settings_.mtu);
  const uint16_t size = found ? active.search.size() : full;
  (void)table_.put(active.host, size);
  const auto before = known_.find(active.host);
  tell(active.host, size, before == known_.end() ? full : before->second.size);
  const uint64_t hold = size == full ? std::min(kFullHold, settings_.hold_ns) : settings_.hold_ns;
  known_[active.host] = {size, now + hold};
  next_end_ns_ = std::min(next_end_ns_, now + hold);
}

void PathMtu::tell(uint32_t host, uint16_t size, uint16_t before) const {
  if (settings_.events == nullptr || size == before) return;
  const uint32_t bytes = size == settings_.mtu ? 0 : size;
  (void)settings_.events->write({EventType::kPathMtu, bytes, host, 0});
}

uint32_t PathMtu::peer_of(uint32_t host) {
  const std::lock_guard<std::mutex> lock(routes_mutex_);
  const auto found = peers_.find(host);
  return found == peers_.end() ? 0 : found->second;
}

bool PathMtu::searches(uint32_t host) const {
  return std::any_of(active_.begin(), active_.end(),
                     [host](const Active& active) { return active.host == host; });
}

}  // namespace flannelette
