#include "sys/file_pages.h"

#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <optional>
#include <string>

#include "sys/owned_fd.h"
#include "sys/retry.h"

namespace flannelette {
namespace {

constexpr const char* kSmaps = "/proc/self/smaps";

// The next word of the text, which loses it and the blanks before it.
std::string_view take_word(std::string_view& text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  const std::string_view word = text.substr(0, text.find_first_of(" \t"));
  text.remove_prefix(word.size());
  return word;
}

template <typename Number>
std::optional<Number> number_of(std::string_view text, int base) {
  Number number{};
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number, base);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return number;
}

// A mapping as smaps has it: a line as in /proc/PID/maps, then lines `Name: number kB`.
struct Mapping {
  MappedRange range;
  bool of_file = false;  // private, and not writable
  std::optional<size_t> rss_kb;
  std::optional<size_t> anonymous_kb;
  std::optional<size_t> swap_kb;
  std::optional<size_t> locked_kb;

  bool file_only() const {
    return of_file && rss_kb.value_or(0) > 0 && anonymous_kb == 0U && swap_kb == 0U &&
           locked_kb == 0U;
  }
};

// BEGIN-END PERMISSIONS OFFSET DEVICE INODE PATH; nothing for any other line.
std::optional<Mapping> mapping_of(std::string_view line) {
  const std::string_view addresses = take_word(line);
  const size_t dash = addresses.find('-');
  if (dash == std::string_view::npos) return std::nullopt;
  const auto begin = number_of<uintptr_t>(addresses.substr(0, dash), 16);
  const auto end = number_of<uintptr_t>(addresses.substr(dash + 1), 16);
  const std::string_view permissions = take_word(line);
  if (!begin.has_value() || !end.has_value() || permissions.size() != 4) return std::nullopt;
  take_word(line);
  take_word(line);
  const auto inode = number_of<uint64_t>(take_word(line), 10);
  Mapping mapping;
  mapping.range = {*begin, *end, 0};
  mapping.of_file = permissions[1] == '-' && permissions[3] == 'p' && inode.value_or(0) != 0;
  return mapping;
}

void read_amount(std::string_view line, Mapping& mapping) {
  const std::string_view name = take_word(line);
  const auto amount = number_of<size_t>(take_word(line), 10);
  if (name == "Rss:") mapping.rss_kb = amount;
  if (name == "Anonymous:") mapping.anonymous_kb = amount;
  if (name == "Swap:") mapping.swap_kb = amount;
  if (name == "Locked:") mapping.locked_kb = amount;
}

Result<std::string> read_smaps() {
  const OwnedFd file(::open(kSmaps, O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return Error{errno, "open", kSmaps};
  std::string text;
  std::array<char, 65536> part{};
  while (true) {
    const auto got =
        retry_interrupted([&] { return ::read(file.get(), part.data(), part.size()); });
    if (got < 0) return Error{errno, "read", kSmaps};
    if (got == 0) return text;
    text.append(part.data(), static_cast<size_t>(got));
  }
}

// A round of dl_iterate_phdr(3).
struct Round {
  std::vector<MappedRange> ranges;
  size_t given = 0;
};

void give_back(const MappedRange& range, Round& round) {
  // The kernel named the address by its number: NOLINTNEXTLINE(performance-no-int-to-ptr)
  void* const at = reinterpret_cast<void*>(range.begin);
  // Refused at most for what came to be locked since; the pages stay then.
  if (::madvise(at, range.end - range.begin, MADV_DONTNEED) == 0) round.given += range.resident;
}

// The linker's lock is held: an object that is listed is mapped as its program headers say.
int give_segments_back(dl_phdr_info* object, size_t /*bytes*/, void* data) {
  Round& round = *static_cast<Round*>(data);
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  for (size_t i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = object->dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || (segment.p_flags & PF_W) != 0) continue;
    const uintptr_t begin = object->dlpi_addr + segment.p_vaddr;
    const uintptr_t end = (begin + segment.p_memsz + page - 1) / page * page;
    for (const MappedRange& range : round.ranges)
      if (range.begin >= begin / page * page && range.end <= end) give_back(range, round);
  }
  return 0;
}

}  // namespace

std::vector<MappedRange> file_only_mappings(std::string_view smaps) {
  std::vector<MappedRange> found;
  std::optional<Mapping> current;
  const auto finish = [&] {
    if (!current.has_value() || !current->file_only()) return;
    current->range.resident = *current->rss_kb * 1024;
    found.push_back(current->range);
  };
  while (!smaps.empty()) {
    const std::string_view line = smaps.substr(0, smaps.find('\n'));
    smaps.remove_prefix(std::min(line.size() + 1, smaps.size()));
    if (auto next = mapping_of(line); next.has_value()) {
      finish();
      current = next;
    } else if (current.has_value()) {
      read_amount(line, *current);
    }
  }
  finish();
  return found;
}

Result<size_t> give_file_pages_back() {
  auto smaps = read_smaps();
  if (!smaps.ok()) return smaps.error();
  Round round{file_only_mappings(smaps.value())};
  ::dl_iterate_phdr(give_segments_back, &round);
  return round.given;
}

}  // namespace flannelette
