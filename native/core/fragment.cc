#include "core/fragment.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/bytes.h"
#include "core/checksum.h"

namespace flannelette {

namespace {

constexpr size_t kHeaderMax = 60;
constexpr uint16_t kMoreFragments = 0x2000;
constexpr uint8_t kEndOfOptions = 0;
constexpr uint8_t kNoOperation = 1;
constexpr uint8_t kCopied = 0x80;

// Options that only the first fragment carries make room for no operation, as in Linux.
void clear_first_only_options(std::span<uint8_t> options) {
  for (size_t i = 0; i < options.size() && options[i] != kEndOfOptions;) {
    if (options[i] == kNoOperation) {
      ++i;
      continue;
    }
    if (i + 1 >= options.size()) return;
    const size_t length = options[i + 1];
    if (length < 2 || i + length > options.size()) return;
    if ((options[i] & kCopied) == 0) std::memset(&options[i], kNoOperation, length);
    i += length;
  }
}

}  // namespace

FragmentPlan::FragmentPlan(const Ipv4Packet& packet, size_t limit)
    : packet_(packet),
      header_(packet.header_length()),
      payload_(packet.bytes().size() - header_),
      chunk_((limit - header_) / 8 * 8),
      count_(payload_ == 0 ? 1 : (payload_ - 1) / chunk_ + 1) {}

void FragmentPlan::write(std::span<uint8_t> out) const {
  const std::span<const uint8_t> packet = packet_.bytes();
  std::array<uint8_t, kHeaderMax> first{};
  std::memcpy(first.data(), packet.data(), header_);
  std::array<uint8_t, kHeaderMax> later = first;
  clear_first_only_options(std::span<uint8_t>(later).first(header_).subspan(ip::kHeaderMin));
  const uint16_t before = load_be16(&first[ip::kFragment]);

  // From the last on: a payload only moves away from its packet's beginning.
  for (size_t i = count_; i-- > 0;) {
    uint8_t* to = &out[i * length()];
    const size_t length = i + 1 < count_ ? this->length() : last_length();
    std::memmove(to + header_, &packet[header_] + i * chunk_, length - header_);
    std::memcpy(to, i == 0 ? first.data() : later.data(), header_);
    auto fragment = static_cast<uint16_t>(before + i * chunk_ / 8);
    if (i + 1 < count_) fragment |= kMoreFragments;
    store_be16(to + ip::kTotalLength, static_cast<uint16_t>(length));
    store_be16(to + ip::kFragment, fragment);
    store_be16(to + ip::kChecksum, 0);
    store_be16(to + ip::kChecksum, internet_checksum({to, header_}));
  }
}

}  // namespace flannelette
