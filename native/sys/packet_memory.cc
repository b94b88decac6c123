#include "sys/packet_memory.h"

#include <sys/mman.h>

#include <cstdlib>

namespace flannelette {

namespace {

// Huge page of x86-64, and of aarch64 with pages of 4 KiB; elsewhere a good alignment like any
// other.
constexpr size_t kHugePage = size_t{2} * 1024 * 1024;

}  // namespace

PacketMemory::PacketMemory(size_t bytes) : size_(bytes) {
  const size_t whole = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  memory_.reset(static_cast<uint8_t*>(std::aligned_alloc(kHugePage, whole)));
  if (!valid()) return;
  // Best effort: the memory works without it as well.
  (void)::madvise(memory_.get(), whole, MADV_HUGEPAGE);
}

void PacketMemory::Free::operator()(uint8_t* memory) const { std::free(memory); }

}  // namespace flannelette
