// Who learns the path MTU of the tunnel: this, by probes of its own (core/path_mtu_probe.h), and
// nobody else.
//
//   packet threads --want(host)--> [search: probes with DF] --put(host, bytes)--> packet threads
//                                     ^ replies, by a raw socket
//
// Datagrams of the tunnel leave without DF, so that a path shorter than expected never loses a
// packet: a router on it fragments them until the search has ended, a second or so, and then
// nothing has to be fragmented any more. ICMP errors from outside are not needed, so nothing is
// lost where they are filtered, and not believed, so nothing is gained by forging them. A host that
// answers no probe, not even a small one, is sent to as if nothing were known.
//
// A host is looked at when long packets go to it (in mode kernel always, because the threads do not
// see them). What was found is looked at again after a minute
// when the path takes full-size packets, so that one that got shorter is noticed; after `hold_ns`
// when it does not (RFC 1191 section 6.3: not before 10 minutes), and what was found stays in force
// meanwhile. What nothing was sent to is forgotten.
//
// One thread of its own, woken by the packet threads, replies and its own clock; it sleeps
// otherwise.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/forwarding_table.h"
#include "core/path_mtu_search.h"
#include "core/path_mtu_table.h"
#include "core/result.h"
#include "engine/events.h"
#include "sys/io.h"
#include "sys/owned_fd.h"

namespace flannelette {

struct PathMtuSettings {
  uint32_t local = 0;  // outer address
  uint16_t port = 8285;
  uint32_t tun_address = 0;
  uint32_t mtu = 1472;                    // of the TUN, bytes: what a full-size packet is
  uint64_t hold_ns = 600'000'000'000ULL;  // how long a shorter path is believed
  const EventPipe* events = nullptr;      // told of changes; null: nobody
};

class PathMtu {
 public:
  // `raw_fd`: open_raw_socket. EPERM without CAP_NET_RAW.
  static Result<std::unique_ptr<PathMtu>> open(Io& io, const PathMtuSettings& settings, int raw_fd);

  PathMtuTable& table() { return table_; }
  int wake_fd() const { return wake_.get(); }

  // From the control thread: which TUN address answers at a next hop. A next hop of 0 takes the
  // subnet away.
  void change_routes(std::span<const Route> changes);

  // From the control thread: bytes of the longest inner packet that reaches the host whole, 0 when
  // nothing is known, which is then found out; the host counts as sent to.
  uint16_t find(uint32_t host);

  // The thread's work, until `stop`, which `stop_fd` tells.
  void run(const std::atomic<bool>& stop, int stop_fd);

  // One look at the clock, the wishes and the replies; milliseconds until the next is due,
  // negative: none is. Part of run().
  int step();

 private:
  PathMtu(Io& io, const PathMtuSettings& settings, int raw_fd, uint16_t identifier, OwnedFd echo,
          OwnedFd wake);

  static constexpr uint64_t kNever = UINT64_MAX;

  struct Known {
    uint16_t size;
    uint64_t until_ns;
  };
  struct Active {
    uint32_t host;
    uint32_t peer;  // its TUN address
    uint64_t secret;
    PathMtuSearch search;
  };

  void read_replies(uint64_t now);
  // Hosts that the packet threads wish for, and those whose time is over.
  void collect(uint64_t now);
  // Begins a search unless one is under way or too many are.
  void consider(uint32_t host, uint64_t now);
  void send(const Active& active, uint16_t size);
  void conclude(const Active& active, uint64_t now);
  // Tells of a path that takes `size` bytes now, where `before` were known.
  void tell(uint32_t host, uint16_t size, uint16_t before) const;
  uint32_t peer_of(uint32_t host);
  bool searches(uint32_t host) const;

  Io& io_;
  const PathMtuSettings settings_;
  int raw_fd_;
  uint16_t identifier_;
  OwnedFd echo_;
  OwnedFd wake_;
  PathMtuTable table_;
  std::mutex routes_mutex_;
  std::unordered_map<uint32_t, uint32_t> peers_;    // host to TUN address
  std::unordered_map<uint32_t, uint32_t> holders_;  // the other way round
  std::unordered_map<uint32_t, Known> known_;
  std::vector<Active> active_;
  std::vector<uint8_t> buffer_;
  // At wishes to forget and times that are over: not before, and when the first is over.
  uint64_t next_look_ns_ = 0;
  uint64_t next_end_ns_ = kNever;
};

}  // namespace flannelette
