// A request to the kernel by netlink(7), as it is put together.
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cstdint>
#include <cstring>

namespace flannelette {

// A netlink message under construction: header, family header, attributes (all 4-byte aligned).
class NetlinkMessage {
 public:
  NetlinkMessage(uint16_t type, uint16_t flags) {
    header()->nlmsg_type = type;
    header()->nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    header()->nlmsg_len = NLMSG_HDRLEN;
  }

  nlmsghdr* header() { return reinterpret_cast<nlmsghdr*>(buffer_.data()); }

  template <typename T>
  T* family() {
    header()->nlmsg_len = NLMSG_LENGTH(sizeof(T));
    return reinterpret_cast<T*>(buffer_.data() + NLMSG_HDRLEN);
  }

  rtattr* add(uint16_t type, const void* data, size_t bytes) {
    auto* attribute = reinterpret_cast<rtattr*>(buffer_.data() + NLMSG_ALIGN(header()->nlmsg_len));
    attribute->rta_type = type;
    attribute->rta_len = static_cast<uint16_t>(RTA_LENGTH(bytes));
    if (bytes != 0) std::memcpy(RTA_DATA(attribute), data, bytes);
    header()->nlmsg_len =
        static_cast<uint32_t>(NLMSG_ALIGN(header()->nlmsg_len) + RTA_ALIGN(attribute->rta_len));
    return attribute;
  }

  void add_u32(uint16_t type, uint32_t value) { add(type, &value, sizeof(value)); }

  // Closes a nested attribute opened by add(type, nullptr, 0).
  void close(rtattr* nest) {
    nest->rta_len = static_cast<uint16_t>(buffer_.data() + header()->nlmsg_len -
                                          reinterpret_cast<uint8_t*>(nest));
  }

 private:
  alignas(NLMSG_ALIGNTO) std::array<uint8_t, 512> buffer_{};
};

}  // namespace flannelette
