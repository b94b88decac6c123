// Memory for packets in huge pages where the kernel grants them.
//
// A copy through 4 KiB pages walks the page table every few packets, and in a virtual machine two
// of them. Transparent huge pages (Linux 2.6.38) need neither privilege nor set-up.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace flannelette {

class PacketMemory {
 public:
  // Not initialised: pages the traffic never reaches are never touched.
  explicit PacketMemory(size_t bytes);

  // False when there was no memory to be had; nothing may be put into it then.
  bool valid() const { return memory_ != nullptr; }
  std::span<uint8_t> bytes() { return {memory_.get(), size_}; }

 private:
  struct Free {
    void operator()(uint8_t* memory) const;
  };
  size_t size_;
  std::unique_ptr<uint8_t[], Free> memory_;
};

}  // namespace flannelette
