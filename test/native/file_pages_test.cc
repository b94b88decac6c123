// Which mappings can be given back, and that nothing is lost by it.
#include "sys/file_pages.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "sys/owned_fd.h"

namespace flannelette::test {
namespace {

// A mapping of /proc/PID/smaps as 4.4 and later have it, without the lines that nobody reads.
std::string mapping(const std::string& first, const std::string& anonymous = "0",
                    const std::string& swap = "0", const std::string& locked = "0",
                    const std::string& rss = "1400") {
  return first + "\nSize:               1500 kB\nRss:                " + rss +
         " kB\nPss:                 700 kB\nAnonymous:          " + anonymous +
         " kB\nAnonHugePages:         0 kB\nSwap:               " + swap +
         " kB\nKernelPageSize:        4 kB\nLocked:             " + locked +
         " kB\nVmFlags: rd ex mr mw me dw sd \n";
}

const std::string kText =
    "00400000-00577000 r-xp 00000000 fe:00 5111847                    /bin/node";

bool given_back(const std::string& smaps) { return !file_only_mappings(smaps).empty(); }

// Pages of a temporary file, each filled with its number, mapped privately.
struct MappedFile {
  static constexpr size_t kPages = 64;

  MappedFile() : page(static_cast<size_t>(::sysconf(_SC_PAGESIZE))) {
    std::string path = "/tmp/flannelette-pages-XXXXXX";
    const OwnedFd file(::mkstemp(path.data()));
    REQUIRE(file.valid());
    REQUIRE(::unlink(path.c_str()) == 0);
    for (size_t i = 0; i < kPages; ++i) {
      const std::string filled(page, static_cast<char>(i));
      REQUIRE(::write(file.get(), filled.data(), page) == static_cast<ssize_t>(page));
    }
    void* mapped =
        ::mmap(nullptr, kPages * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, file.get(), 0);
    REQUIRE(mapped != MAP_FAILED);
    bytes = static_cast<uint8_t*>(mapped);
  }
  ~MappedFile() { ::munmap(bytes, kPages * page); }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  void protect() const { REQUIRE(::mprotect(bytes, kPages * page, PROT_READ) == 0); }
  uint8_t first_of(size_t i) const { return static_cast<const volatile uint8_t*>(bytes)[i * page]; }

  size_t page;
  uint8_t* bytes = nullptr;
};

// Bytes of the mapping in this process's page tables.
size_t resident(const MappedFile& file) {
  const OwnedFd map(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  REQUIRE(map.valid());
  std::vector<uint64_t> entries(MappedFile::kPages);
  const auto size = entries.size() * sizeof(entries[0]);
  const auto offset = reinterpret_cast<uintptr_t>(file.bytes) / file.page * sizeof(entries[0]);
  REQUIRE(::pread(map.get(), entries.data(), size, static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(size));
  size_t found = 0;
  for (const uint64_t entry : entries) found += (entry >> 63U) != 0 ? file.page : 0;
  return found;
}

// RssFile of /proc/self/status, or all of it before Linux 4.5.
size_t resident_file_bytes() {
  std::ifstream status("/proc/self/status");
  size_t found = 0;
  for (std::string name; status >> name;)
    if (name == "RssFile:" || (name == "VmRSS:" && found == 0)) status >> found;
  REQUIRE(found > 0);
  return found;
}

// Kernels without CONFIG_PROC_PAGE_MONITOR have none.
bool kernel_tells() {
  if (::access("/proc/self/smaps", R_OK) == 0) return true;
  auto given = give_file_pages_back();
  REQUIRE_FALSE(given.ok());
  CHECK(given.error().number == ENOENT);
  return false;
}

}  // namespace

TEST_CASE("a program's text is given back, by its addresses and what is there of it") {
  const auto found = file_only_mappings(mapping(kText));
  REQUIRE(found.size() == 1);
  CHECK(found[0].begin == 0x400000);
  CHECK(found[0].end == 0x577000);
  CHECK(found[0].resident == size_t{1400} * 1024);
}

TEST_CASE("what is the process's own, or could be, stays") {
  CHECK_FALSE(given_back(mapping(kText, "4")));
  CHECK_FALSE(given_back(mapping(kText, "0", "4")));
  CHECK_FALSE(given_back(mapping(kText, "0", "0", "1400")));
  CHECK_FALSE(given_back(mapping(kText, "0", "0", "0", "0")));
  CHECK_FALSE(given_back(mapping(kText, "x")));
  for (const char* first : {
           "00400000-00577000 rw-p 00000000 fe:00 5111847 /bin/node",
           "00400000-00577000 r-xs 00000000 fe:00 5111847 /bin/node",
           "00400000-00577000 r-xp 00000000 00:00 0",
           "00400000-00577000 r-xp 00000000 00:00 0 [vdso]",
           "00400000-00577000 r-xp 00000000 fe:00",
           "00400000-0057700g r-xp 00000000 fe:00 5111847 /bin/node",
           "-00577000 r-xp 00000000 fe:00 5111847 /bin/node",
           "00400000-00577000 r-x 00000000 fe:00 5111847 /bin/node",
       }) {
    CAPTURE(first);
    CHECK_FALSE(given_back(mapping(first)));
  }
}

TEST_CASE("a mapping that does not say all of it stays") {
  const std::string whole = mapping(kText);
  CHECK(given_back(whole));
  for (const char* name : {"Rss:", "Anonymous:", "Swap:", "Locked:"}) {
    CAPTURE(name);
    std::string lacking = whole;
    lacking.replace(lacking.find(name), 3, "???");
    CHECK_FALSE(given_back(lacking));
  }
  CHECK_FALSE(given_back(""));
  CHECK_FALSE(given_back("\n\n"));
  CHECK_FALSE(given_back("Rss: 4 kB\nAnonymous: 0 kB\n"));
  // Cut off in the last line.
  CHECK_FALSE(given_back(whole.substr(0, whole.find("Locked:") + 4)));
}

TEST_CASE("each mapping is looked at by itself, whatever its path is called") {
  const std::string odd = "b7000000-b7001000 r--p 00000000 fe:00 7 /a b\tRss: 5-6 r-xp";
  const auto found = file_only_mappings(mapping(kText, "8") + mapping(odd) + mapping(kText));
  REQUIRE(found.size() == 2);
  CHECK(found[0].begin == 0xb7000000);
  CHECK(found[1].begin == 0x400000);
}

TEST_CASE("the program's own pages leave this process, and come back as they were") {
  if (!kernel_tells()) return;
  const auto before = resident_file_bytes();
  auto given = give_file_pages_back();
  REQUIRE(given.ok());
  CHECK(given.value() > 0);
  CHECK(resident_file_bytes() < before);
  auto again = give_file_pages_back();
  REQUIRE(again.ok());
  // What this loop needs came back meanwhile.
  CHECK(again.value() > 0);
  CHECK(again.value() <= given.value());
}

TEST_CASE("a file that was mapped for another reason stays, written or not") {
  if (!kernel_tells()) return;
  const MappedFile file;
  file.bytes[3 * file.page] = 0xaa;
  file.protect();
  for (size_t i = 0; i < MappedFile::kPages; ++i) CHECK(file.first_of(i) == (i == 3 ? 0xaa : i));
  REQUIRE(give_file_pages_back().ok());
  CHECK(resident(file) == MappedFile::kPages * file.page);
  for (size_t i = 0; i < MappedFile::kPages; ++i) CHECK(file.first_of(i) == (i == 3 ? 0xaa : i));
}

}  // namespace flannelette::test
