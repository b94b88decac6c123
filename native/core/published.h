// An immutable value that threads read without a lock while another thread replaces it.
//
// Quiescent-state reclamation: a reader announces the epoch it entered in before it loads the
// pointer and withdraws when it is about to block; the publisher swaps the pointer, advances the
// epoch and frees what no reader that is still inside can have loaded. Publishing never waits for a
// reader: what cannot be freed yet is freed by a later publish or by the destructor.
//
//   reader:    seen = epoch ; load current ; ... use ... ; seen = 0
//   publisher: swap current ; epoch += 1  ; free every retired value older than all seen
//
// All of it is sequentially consistent: either the publisher sees the reader's announcement, or the
// reader sees the publisher's new pointer.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace flannelette {

template <typename T, size_t Readers>
class Published {
 public:
  explicit Published(std::unique_ptr<const T> initial) : current_(initial.release()) {}
  // No reader may be inside.
  ~Published() { delete current_.load(); }
  Published(const Published&) = delete;
  Published& operator=(const Published&) = delete;

  // Enters reader `slot` (one thread each) and returns the current value, valid until `leave`
  // or the next `enter` of the same slot.
  const T& enter(size_t slot) {
    seen_[slot].epoch.store(epoch_.load());
    return *current_.load();
  }

  // The reader holds no reference any more; call before every blocking wait.
  void leave(size_t slot) { seen_[slot].epoch.store(0); }

  // Replaces the value. Any thread but a reader; publishers exclude each other.
  void publish(std::unique_ptr<const T> next) {
    const std::lock_guard<std::mutex> lock(publishers_);
    std::unique_ptr<const T> old(current_.exchange(next.release()));
    retired_.push_back({epoch_.load(), std::move(old)});
    epoch_.store(epoch_.load() + 1);
    reclaim();
  }

  // Values waiting for a reader to move on.
  size_t retired() {
    const std::lock_guard<std::mutex> lock(publishers_);
    return retired_.size();
  }

 private:
  struct alignas(64) Seen {
    std::atomic<uint64_t> epoch{0};  // 0: outside
  };
  struct Retired {
    uint64_t epoch;  // the last epoch in which a reader can have loaded it
    std::unique_ptr<const T> value;
  };

  void reclaim() {
    uint64_t oldest = UINT64_MAX;
    for (const Seen& seen : seen_) {
      const uint64_t epoch = seen.epoch.load();
      if (epoch != 0) oldest = std::min(oldest, epoch);
    }
    std::erase_if(retired_, [oldest](const Retired& retired) { return retired.epoch < oldest; });
  }

  std::atomic<const T*> current_;
  std::atomic<uint64_t> epoch_{1};
  std::array<Seen, Readers> seen_;
  std::mutex publishers_;
  std::vector<Retired> retired_;
};

}  // namespace flannelette
