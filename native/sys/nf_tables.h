// What is said to nf_tables by netlink (linux/netfilter/nf_tables.h): one transaction of tables,
// chains and rules, which the kernel takes as a whole or not at all.
#pragma once

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/result.h"
#include "sys/netlink_batch.h"

namespace flannelette {

// In front of everybody who looks at packets, also of conntrack (-400 and -200).
inline constexpr int32_t kBeforeAllPriority = -450;
// Behind everybody: filters and marks of others.
inline constexpr int32_t kAfterAllPriority = 32000;

// Of IPv4 and UDP headers.
inline constexpr uint32_t kProtocolAt = 9;
inline constexpr uint32_t kSourceAt = 12;
inline constexpr uint32_t kDestinationAt = 16;
inline constexpr uint32_t kPortAt = 2;
inline constexpr uint32_t kUdpChecksumAt = 6;

constexpr uint16_t nft_type(uint16_t message) { return NFNL_SUBSYS_NFTABLES << 8 | message; }

// Begins a message about IPv4.
void begin_nft(NetlinkBatch& batch, uint16_t message, uint16_t flags);

// One rule, at the end of a chain; each call adds an expression. Values are in network order.
class NftRule {
 public:
  static constexpr uint32_t kFirst = NFT_REG_1;
  static constexpr uint32_t kSecond = NFT_REG32_01;  // 4 bytes behind the first

  NftRule(NetlinkBatch& batch, const std::string& table, const char* chain);
  ~NftRule() { batch_.close(expressions_); }
  NftRule(const NftRule&) = delete;
  NftRule& operator=(const NftRule&) = delete;

  // Bytes of the packet to a register.
  void load(uint32_t base, uint32_t offset, uint32_t bytes, uint32_t to = kFirst);
  // From the first register to the packet (Linux 4.5); `checksum_at`, in the same header, is
  // mended.
  void store(uint32_t base, uint32_t offset, uint32_t bytes);
  void store(uint32_t base, uint32_t offset, uint32_t bytes, uint32_t checksum_at);
  void load_meta(uint32_t key);
  // From the first register.
  void set_meta(uint32_t key);
  void mask(uint32_t mask, uint32_t at);
  // With the first register; the rule ends when it does not hold.
  void compare(uint32_t operation, const void* data, size_t bytes);
  void look_up(const std::string& set);
  void load_value(const void* data, size_t bytes);
  void verdict(uint32_t code);
  // UDP to a port of an address, which may be 0 for every.
  void match_udp(uint32_t local, uint16_t port);

 private:
  template <typename Add>
  void expression(const char* name, Add&& add);
  void value(uint16_t type, const void* data, size_t bytes);
  void store(uint32_t base, uint32_t offset, uint32_t bytes, uint32_t kind, uint32_t checksum_at);

  NetlinkBatch& batch_;
  size_t expressions_;
};

void add_nft_chain(NetlinkBatch& batch, const std::string& table, const char* name, uint32_t hook,
                   int32_t priority);

// Makes a table anew with what `fill` adds to it, in one step. EOPNOTSUPP or EPROTONOSUPPORT: no
// nf_tables; ENOENT, EINVAL or EOPNOTSUPP: it lacks something of that. With `owner` the table goes
// when that is closed, and nobody else can change it (Linux 5.12); before, it stays, and `owner`
// too is closed.
template <typename Fill>
Status replace_nft_table(const std::string& table, Fill&& fill, OwnedFd* owner = nullptr);
// Takes a table away, if it is there.
Status remove_nft_table(const std::string& table);

// Of replace_nft_table.
void begin_nft_table(NetlinkBatch& batch, const std::string& table, bool owned);
Status send_nft_table(NetlinkBatch& batch, OwnedFd* owner);

template <typename Fill>
Status replace_nft_table(const std::string& table, Fill&& fill, OwnedFd* owner) {
  NetlinkBatch batch(NETLINK_NETFILTER);
  begin_nft_table(batch, table, owner != nullptr);
  fill(batch);
  Status refused = send_nft_table(batch, owner);
  if (!refused || owner == nullptr) return refused;
  return replace_nft_table(table, fill);
}

}  // namespace flannelette
