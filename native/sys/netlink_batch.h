// Requests to the kernel by netlink(7) of any length and protocol, several in one datagram.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/result.h"
#include "sys/owned_fd.h"

namespace flannelette {

class NetlinkBatch {
 public:
  // `protocol`: NETLINK_GENERIC, NETLINK_NETFILTER ...
  explicit NetlinkBatch(int protocol) : protocol_(protocol) {}

  // Begins the next message with its family's header; what is added goes to the last one begun.
  template <typename Family>
  void begin(uint16_t type, uint16_t flags, const Family& family) {
    begin_message(type, flags, &family, sizeof(family));
  }
  void add(uint16_t type, const void* data, size_t bytes);
  void add_u8(uint16_t type, uint8_t value) { add(type, &value, sizeof(value)); }
  void add_u16(uint16_t type, uint16_t value) { add(type, &value, sizeof(value)); }
  void add_u32(uint16_t type, uint32_t value) { add(type, &value, sizeof(value)); }
  // In network order, as nf_tables has all its numbers.
  void add_be32(uint16_t type, uint32_t value);
  // With the NUL at its end.
  void add_text(uint16_t type, const std::string& text);
  // Attributes within an attribute, between open and close.
  size_t open(uint16_t type);
  void close(size_t nest);
  // Has the kernel acknowledge the last message begun.
  void acknowledge();

  // Sends all of it and gives every other message of the answer to `on_reply`, up to the
  // acknowledgement or the end of a dump. The first error there is. The socket is closed again, or
  // given to `kept` when there was none: what is made may belong to it.
  using Reply = std::function<void(nlmsghdr& message)>;
  Status send(const char* operation, const Reply& on_reply = nullptr, OwnedFd* kept = nullptr);

 private:
  void begin_message(uint16_t type, uint16_t flags, const void* family, size_t bytes);
  nlmsghdr* last() { return reinterpret_cast<nlmsghdr*>(buffer_.data() + last_); }
  void append(const void* data, size_t bytes);

  int protocol_;
  std::vector<uint8_t> buffer_;
  size_t last_ = 0;  // where the last message begins
  uint32_t sequence_ = 0;
  uint32_t awaited_ = 0;  // sequence of the message whose answer is the end
};

}  // namespace flannelette
