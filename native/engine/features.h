// The optional kernel features a data plane uses, each with a switch of its own.
//
// A feature is tried on the very descriptor it is for, when that is opened; it may be refused later
// too, by the first call that uses it (a route over another device, a seccomp filter). The
// caller switches it off then and goes on without; no packet is lost by that. Threads read the
// switches, any of them may turn one off; only the control thread turns one on again, and only one
// that was not used so far.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace flannelette {

enum class KernelFeature : uint8_t {
  kMmsg,        // recvmmsg (2.6.33) and sendmmsg (3.0)
  kTunTso,      // TCP packets larger than the MTU from and to the TUN (2.6.27)
  kTunUso,      // trains of UDP packets from and to the TUN (6.2)
  kUdpGso,      // UDP_SEGMENT: one send, many datagrams (4.18)
  kUdpGro,      // UDP_GRO: one receive, many datagrams (5.0, safe from 5.12)
  kMultiqueue,  // several queues of the TUN (3.8), several sockets on the port (3.9)
  kFou,         // the kernel's own tunnel, Foo over UDP (3.18), in place of a data plane here
  kKernelPath,  // eBPF programs that carry packets inside the kernel (5.10)
  kSeccomp,     // a list of system calls for the packet threads (3.5)
  kCount,
};

inline constexpr size_t kKernelFeatures = static_cast<size_t>(KernelFeature::kCount);

constexpr const char* feature_name(KernelFeature feature) {
  constexpr std::array<const char*, kKernelFeatures> names = {
      "mmsg",       "tun-tso", "tun-uso",     "udp-gso", "udp-gro",
      "multiqueue", "fou",     "kernel-path", "seccomp"};
  return names[static_cast<size_t>(feature)];
}

// One bit for each feature.
using FeatureSet = uint32_t;
constexpr FeatureSet feature_bit(KernelFeature feature) {
  return FeatureSet{1} << static_cast<unsigned>(feature);
}
inline constexpr FeatureSet kAllFeatures = (FeatureSet{1} << kKernelFeatures) - 1;

enum class FeatureState : uint8_t {
  kUnused,    // the mode does without
  kDisabled,  // switched off by the user
  kRefused,   // the kernel said no: see the errno
  kActive,
};

class FeatureSwitches {
 public:
  // What the mode uses is on unless the user disabled it.
  FeatureSwitches(FeatureSet used, FeatureSet disabled) {
    for (size_t i = 0; i < kKernelFeatures; ++i) {
      const FeatureSet bit = FeatureSet{1} << i;
      const FeatureState state = (used & bit) == 0       ? FeatureState::kUnused
                                 : (disabled & bit) != 0 ? FeatureState::kDisabled
                                                         : FeatureState::kActive;
      switches_[i].store(static_cast<uint32_t>(state), std::memory_order_relaxed);
    }
  }

  bool on(KernelFeature feature) const { return state(feature) == FeatureState::kActive; }
  FeatureState state(KernelFeature feature) const {
    return static_cast<FeatureState>(word(feature) & 0xff);
  }
  // Why it was refused; 0 when it was not.
  int error(KernelFeature feature) const { return static_cast<int>(word(feature) >> 8); }

  // The kernel refused with this errno. True for the caller that switched it off.
  bool refuse(KernelFeature feature, int number) {
    const uint32_t off =
        static_cast<uint32_t>(FeatureState::kRefused) | static_cast<uint32_t>(number) << 8;
    auto on = static_cast<uint32_t>(FeatureState::kActive);
    return switches_[static_cast<size_t>(feature)].compare_exchange_strong(
        on, off, std::memory_order_relaxed);
  }

  // Does without one that was on, or takes one into use that was not.
  void leave(KernelFeature feature) {
    exchange(feature, FeatureState::kActive, FeatureState::kUnused);
  }
  bool use(KernelFeature feature) {
    return exchange(feature, FeatureState::kUnused, FeatureState::kActive);
  }

 private:
  bool exchange(KernelFeature feature, FeatureState before, FeatureState after) {
    auto expected = static_cast<uint32_t>(before);
    return switches_[static_cast<size_t>(feature)].compare_exchange_strong(
        expected, static_cast<uint32_t>(after), std::memory_order_relaxed);
  }
  uint32_t word(KernelFeature feature) const {
    return switches_[static_cast<size_t>(feature)].load(std::memory_order_relaxed);
  }

  std::array<std::atomic<uint32_t>, kKernelFeatures> switches_;
};

}  // namespace flannelette
