#include "sys/nf_tables.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <netinet/in.h>

#include <cerrno>

namespace flannelette {

namespace {

void begin_batch(NetlinkBatch& batch, uint16_t type) {
  batch.begin(type, 0, nfgenmsg{AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES)});
}

// NFT_TABLE_F_OWNER; headers before Linux 5.12 lack it.
constexpr uint32_t kOwned = 2;

void add_table(NetlinkBatch& batch, uint16_t message, const std::string& table) {
  begin_nft(batch, message, message == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0);
  batch.add_text(NFTA_TABLE_NAME, table);
}

// Deleting what may not be there is an error, making what is there none.
void add_removal(NetlinkBatch& batch, const std::string& table) {
  begin_batch(batch, NFNL_MSG_BATCH_BEGIN);
  add_table(batch, NFT_MSG_NEWTABLE, table);
  add_table(batch, NFT_MSG_DELTABLE, table);
}

}  // namespace

void begin_nft(NetlinkBatch& batch, uint16_t message, uint16_t flags) {
  batch.begin(nft_type(message), flags, nfgenmsg{NFPROTO_IPV4, NFNETLINK_V0, 0});
}

NftRule::NftRule(NetlinkBatch& batch, const std::string& table, const char* chain) : batch_(batch) {
  begin_nft(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
  batch.add_text(NFTA_RULE_TABLE, table);
  batch.add_text(NFTA_RULE_CHAIN, chain);
  expressions_ = batch.open(NFTA_RULE_EXPRESSIONS);
}

template <typename Add>
void NftRule::expression(const char* name, Add&& add) {
  const size_t element = batch_.open(NFTA_LIST_ELEM);
  batch_.add_text(NFTA_EXPR_NAME, name);
  const size_t data = batch_.open(NFTA_EXPR_DATA);
  add();
  batch_.close(data);
  batch_.close(element);
}

void NftRule::value(uint16_t type, const void* data, size_t bytes) {
  const size_t nest = batch_.open(type);
  batch_.add(NFTA_DATA_VALUE, data, bytes);
  batch_.close(nest);
}

void NftRule::load(uint32_t base, uint32_t offset, uint32_t bytes, uint32_t to) {
  expression("payload", [&] {
    batch_.add_be32(NFTA_PAYLOAD_DREG, to);
    batch_.add_be32(NFTA_PAYLOAD_BASE, base);
    batch_.add_be32(NFTA_PAYLOAD_OFFSET, offset);
    batch_.add_be32(NFTA_PAYLOAD_LEN, bytes);
  });
}

void NftRule::store(uint32_t base, uint32_t offset, uint32_t bytes, uint32_t kind,
                    uint32_t checksum_at) {
  expression("payload", [&] {
    batch_.add_be32(NFTA_PAYLOAD_SREG, kFirst);
    batch_.add_be32(NFTA_PAYLOAD_BASE, base);
    batch_.add_be32(NFTA_PAYLOAD_OFFSET, offset);
    batch_.add_be32(NFTA_PAYLOAD_LEN, bytes);
    batch_.add_be32(NFTA_PAYLOAD_CSUM_TYPE, kind);
    batch_.add_be32(NFTA_PAYLOAD_CSUM_OFFSET, checksum_at);
  });
}

void NftRule::store(uint32_t base, uint32_t offset, uint32_t bytes) {
  store(base, offset, bytes, NFT_PAYLOAD_CSUM_NONE, 0);
}

void NftRule::store(uint32_t base, uint32_t offset, uint32_t bytes, uint32_t checksum_at) {
  store(base, offset, bytes, NFT_PAYLOAD_CSUM_INET, checksum_at);
}

void NftRule::load_meta(uint32_t key) {
  expression("meta", [&] {
    batch_.add_be32(NFTA_META_DREG, kFirst);
    batch_.add_be32(NFTA_META_KEY, key);
  });
}

void NftRule::set_meta(uint32_t key) {
  expression("meta", [&] {
    batch_.add_be32(NFTA_META_SREG, kFirst);
    batch_.add_be32(NFTA_META_KEY, key);
  });
}

void NftRule::mask(uint32_t mask, uint32_t at) {
  const uint32_t none = 0;
  expression("bitwise", [&] {
    batch_.add_be32(NFTA_BITWISE_SREG, at);
    batch_.add_be32(NFTA_BITWISE_DREG, at);
    batch_.add_be32(NFTA_BITWISE_LEN, sizeof(mask));
    value(NFTA_BITWISE_MASK, &mask, sizeof(mask));
    value(NFTA_BITWISE_XOR, &none, sizeof(none));
  });
}

void NftRule::compare(uint32_t operation, const void* data, size_t bytes) {
  expression("cmp", [&] {
    batch_.add_be32(NFTA_CMP_SREG, kFirst);
    batch_.add_be32(NFTA_CMP_OP, operation);
    value(NFTA_CMP_DATA, data, bytes);
  });
}

void NftRule::look_up(const std::string& set) {
  expression("lookup", [&] {
    batch_.add_text(NFTA_LOOKUP_SET, set);
    batch_.add_be32(NFTA_LOOKUP_SREG, kFirst);
  });
}

void NftRule::load_value(const void* data, size_t bytes) {
  expression("immediate", [&] {
    batch_.add_be32(NFTA_IMMEDIATE_DREG, kFirst);
    value(NFTA_IMMEDIATE_DATA, data, bytes);
  });
}

void NftRule::verdict(uint32_t code) {
  expression("immediate", [&] {
    batch_.add_be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
    const size_t data = batch_.open(NFTA_IMMEDIATE_DATA);
    const size_t verdict = batch_.open(NFTA_DATA_VERDICT);
    batch_.add_be32(NFTA_VERDICT_CODE, code);
    batch_.close(verdict);
    batch_.close(data);
  });
}

void NftRule::match_udp(uint32_t local, uint16_t port) {
  const uint8_t protocol = IPPROTO_UDP;
  const uint32_t address = htonl(local);
  const uint16_t at_port = htons(port);
  load(NFT_PAYLOAD_NETWORK_HEADER, kProtocolAt, sizeof(protocol));
  compare(NFT_CMP_EQ, &protocol, sizeof(protocol));
  if (local != 0) {
    load(NFT_PAYLOAD_NETWORK_HEADER, kDestinationAt, sizeof(address));
    compare(NFT_CMP_EQ, &address, sizeof(address));
  }
  load(NFT_PAYLOAD_TRANSPORT_HEADER, kPortAt, sizeof(at_port));
  compare(NFT_CMP_EQ, &at_port, sizeof(at_port));
}

void add_nft_chain(NetlinkBatch& batch, const std::string& table, const char* name, uint32_t hook,
                   int32_t priority) {
  begin_nft(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
  batch.add_text(NFTA_CHAIN_TABLE, table);
  batch.add_text(NFTA_CHAIN_NAME, name);
  const size_t at = batch.open(NFTA_CHAIN_HOOK);
  batch.add_be32(NFTA_HOOK_HOOKNUM, hook);
  batch.add_be32(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(priority));
  batch.close(at);
  batch.add_text(NFTA_CHAIN_TYPE, "filter");
}

void begin_nft_table(NetlinkBatch& batch, const std::string& table, bool owned) {
  add_removal(batch, table);
  add_table(batch, NFT_MSG_NEWTABLE, table);
  if (owned) batch.add_be32(NFTA_TABLE_FLAGS, kOwned);
}

Status send_nft_table(NetlinkBatch& batch, OwnedFd* owner) {
  batch.acknowledge();
  begin_batch(batch, NFNL_MSG_BATCH_END);
  return batch.send("nf_tables", nullptr, owner);
}

Status remove_nft_table(const std::string& table) {
  // Looked for first: a change, even of nothing, wakes everybody who watches the rules.
  NetlinkBatch query(NETLINK_NETFILTER);
  begin_nft(query, NFT_MSG_GETTABLE, 0);
  query.add_text(NFTA_TABLE_NAME, table);
  query.acknowledge();
  if (const auto missing = query.send("nf_tables"); missing && missing->number == ENOENT) return {};
  NetlinkBatch batch(NETLINK_NETFILTER);
  add_removal(batch, table);
  auto refused = send_nft_table(batch, nullptr);
  if (refused) refused->detail = table;
  return refused;
}

}  // namespace flannelette
