// The crossings of the kernel's border that a packet makes, in pairs: what one sends the other
// receives, so that each can be timed alone.
//
//   container-send -> tun-read        udp-send -> udp-receive        tun-write -> container-receive
//
// and udp-send-device, whose packets end in a device's queue instead of another host's socket.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "endpoint.h"

namespace flannelette::bench {

// One crossing after the other, for one size and one way with checksums.
struct Pair {
  const char* sender = "";
  const char* receiver = nullptr;  // nullptr: what receives is no crossing of its own
  Checksum checksum = Checksum::kSoftware;
  bool segmented = false;
  size_t bytes = 0;  // of the inner packets one call carries, headers included
  size_t batch = 0;  // calls in a row: what the queue between the two holds for certain
  int receiver_fd = -1;
  // One call each: the bytes it carried, or a negative errno.
  std::function<ssize_t()> send;
  std::function<ssize_t()> receive;
  ssize_t sent_bytes = 0;      // what `send` is to return
  ssize_t received_bytes = 0;  // what `receive` is to return
  std::function<void()> prepare;
};

// A combination that this kernel refuses.
struct Missing {
  std::string what;
  int number;  // errno
};

class Crossings {
 public:
  Crossings();
  ~Crossings();
  Crossings(const Crossings&) = delete;
  Crossings& operator=(const Crossings&) = delete;

  std::vector<Pair>& pairs() { return pairs_; }
  const std::vector<Missing>& missing() const { return missing_; }

 private:
  struct Ends;
  void add(Checksum checksum, size_t bytes);
  void add_segmented(size_t bytes);
  std::function<ssize_t()> tun_reader(Checksum checksum);
  void add_container_to_tun(Checksum checksum, size_t bytes, bool segmented);
  void add_udp(Checksum checksum, size_t bytes, bool segmented);
  void add_tun_to_container(Checksum checksum, size_t bytes, bool segmented);

  std::unique_ptr<Ends> ends_;
  std::vector<Pair> pairs_;
  std::vector<Missing> missing_;
};

}  // namespace flannelette::bench
