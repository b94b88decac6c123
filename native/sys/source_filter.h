// Datagrams refused in front of a socket's queue, by their outer source alone: a classic BPF
// program (SO_ATTACH_FILTER, Linux 2.2; no privilege), which costs a dropped datagram neither a
// place in the queue nor a wake-up nor a copy.
#pragma once

#include <linux/filter.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace flannelette {

// Addresses from first to last, both included, in host order.
struct AddressRange {
  uint32_t first = 0;
  uint32_t last = 0;
};

// The fewest addresses that `most` ranges (1 or more) can hold with all of these among them,
// ascending and apart.
std::vector<AddressRange> cover(std::vector<uint32_t> addresses, size_t most);
// Whether one of the ranges, ascending and apart, holds the address.
bool covers(std::span<const AddressRange> ranges, uint32_t address);

// Ranges a filter may have: six instructions each, of at most 4096 (BPF_MAXINSNS), and, as the
// kernel translates them, in 20 KB of its memory (net.core.optmem_max before Linux 6.7). That takes
// up to eleven of eight bytes for a range before 4.14, which has no jumps for "less".
inline constexpr size_t kFilterRangesMax = 128;

// Accepts what comes from the ranges, ascending and apart, by a binary search.
std::vector<sock_filter> source_program(std::span<const AddressRange> ranges);

// Has the socket take datagrams from these ranges only, from now on. 0 or an errno: ENOMEM where
// net.core.optmem_max is smaller still.
int attach_source_filter(int fd, std::span<const AddressRange> ranges);
// Has it take all. 0 or an errno, ENOENT when it did.
int detach_source_filter(int fd);

}  // namespace flannelette
