#include "sys/source_filter.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "core/headers.h"

namespace flannelette {
namespace {

constexpr uint32_t kAccept = UINT32_MAX;

// The search of these ranges; what falls through its end has been decided.
void search(std::span<const AddressRange> ranges, std::vector<sock_filter>& program) {
  if (ranges.size() == 1) {
    const auto [first, last] = ranges[0];
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 1));
    program.push_back(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, last, 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, 0));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, kAccept));
    return;
  }
  const auto upper = ranges.subspan(ranges.size() / 2);
  // A conditional jump reaches 255 instructions, an unconditional one all of them.
  program.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, upper[0].first, 0, 1));
  const size_t jump = program.size();
  program.push_back(BPF_STMT(BPF_JMP | BPF_JA, 0));
  search(ranges.first(ranges.size() / 2), program);
  program[jump].k = static_cast<uint32_t>(program.size() - jump - 1);
  search(upper, program);
}

}  // namespace

std::vector<AddressRange> cover(std::vector<uint32_t> addresses, size_t most) {
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  // The widest gaps stay open. Of each: the place of the address behind it.
  std::vector<size_t> gaps;
  for (size_t i = 1; i < addresses.size(); ++i)
    if (addresses[i] - addresses[i - 1] > 1) gaps.push_back(i);
  const auto wider = [&](size_t a, size_t b) {
    return addresses[a] - addresses[a - 1] > addresses[b] - addresses[b - 1];
  };
  if (gaps.size() >= most) {
    std::nth_element(gaps.begin(), gaps.begin() + static_cast<ptrdiff_t>(most - 1), gaps.end(),
                     wider);
    gaps.resize(most - 1);
    std::sort(gaps.begin(), gaps.end());
  }
  std::vector<AddressRange> ranges;
  size_t from = 0;
  for (const size_t gap : gaps) {
    ranges.push_back({addresses[from], addresses[gap - 1]});
    from = gap;
  }
  if (!addresses.empty()) ranges.push_back({addresses[from], addresses.back()});
  return ranges;
}

bool covers(std::span<const AddressRange> ranges, uint32_t address) {
  const auto after =
      std::upper_bound(ranges.begin(), ranges.end(), address,
                       [](uint32_t wanted, const AddressRange& one) { return wanted < one.first; });
  return after != ranges.begin() && address <= (after - 1)->last;
}

std::vector<sock_filter> source_program(std::span<const AddressRange> ranges) {
  std::vector<sock_filter> program;
  if (ranges.empty()) {
    program.push_back(BPF_STMT(BPF_RET | BPF_K, 0));
    return program;
  }
  constexpr auto kSource = static_cast<uint32_t>(SKF_NET_OFF) + ip::kSource;
  program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kSource));
  search(ranges, program);
  return program;
}

int attach_source_filter(int fd, std::span<const AddressRange> ranges) {
  std::vector<sock_filter> code = source_program(ranges);
  // Two at once would not fit net.core.optmem_max; a moment without one lets nobody in for good.
  (void)detach_source_filter(fd);
  const sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? errno : 0;
}

int detach_source_filter(int fd) {
  const int ignored = 0;
  return ::setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, &ignored, sizeof(ignored)) < 0 ? errno : 0;
}

}  // namespace flannelette
