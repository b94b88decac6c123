#include "sys/fou_admission.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "sys/netlink_batch.h"
#include "sys/netlink_dump.h"

namespace flannelette {

namespace {

// In front of everybody who looks at packets, also of conntrack (-400 and -200).
constexpr int32_t kReceivedPriority = -450;
// Behind everybody who sets marks in INPUT.
constexpr int32_t kMarkPriority = 32000;

constexpr const char* kMarkChain = "mark_source";
constexpr const char* kReceivedChain = "received";

// What nft(8) calls ipv4_addr . ipv4_addr: six bits each.
constexpr uint32_t kAddressType = 7;
constexpr uint32_t kTwoAddresses = kAddressType << 6 | kAddressType;

constexpr uint32_t kFirst = NFT_REG_1;
constexpr uint32_t kSecond = NFT_REG32_01;  // 4 bytes behind the first

// At most 31 characters before Linux 4.14.
std::string table_of(const FouEnd& end) {
  char name[32];
  std::snprintf(name, sizeof(name), "flannelette-fou-%08x%04x", end.local, end.port);
  return name;
}

std::string set_of(uint32_t prefix) { return "hosts" + std::to_string(prefix); }

// Key of an element: host and network, in network order.
using Key = std::array<uint32_t, 2>;
struct Element {
  uint32_t prefix;
  Key key;
  bool operator==(const Element&) const = default;
  bool operator<(const Element& other) const {
    return std::tie(prefix, key) < std::tie(other.prefix, other.key);
  }
};

std::set<Element> elements_of(std::span<const Route> hosts) {
  std::set<Element> out;
  for (const Route& route : hosts) {
    const auto host = htonl(route.next_hop);
    out.insert({route.subnet.prefix, {host, htonl(route.subnet.network)}});
    // A host sends from its own address too.
    out.insert({32, {host, host}});
  }
  return out;
}

std::set<uint32_t> prefixes_of(const std::set<Element>& elements) {
  std::set<uint32_t> out;
  for (const Element& element : elements) out.insert(element.prefix);
  return out;
}

constexpr uint16_t type_of(uint16_t message) { return NFNL_SUBSYS_NFTABLES << 8 | message; }

void begin(NetlinkBatch& batch, uint16_t message, uint16_t flags) {
  batch.begin(type_of(message), flags, nfgenmsg{NFPROTO_IPV4, NFNETLINK_V0, 0});
}

void begin_batch(NetlinkBatch& batch, uint16_t type) {
  batch.begin(type, 0, nfgenmsg{AF_UNSPEC, NFNETLINK_V0, htons(NFNL_SUBSYS_NFTABLES)});
}

// One rule; each call adds an expression.
class Rule {
 public:
  Rule(NetlinkBatch& batch, const std::string& table, const char* chain) : batch_(batch) {
    begin(batch, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
    batch.add_text(NFTA_RULE_TABLE, table);
    batch.add_text(NFTA_RULE_CHAIN, chain);
    expressions_ = batch.open(NFTA_RULE_EXPRESSIONS);
  }
  ~Rule() { batch_.close(expressions_); }
  Rule(const Rule&) = delete;
  Rule& operator=(const Rule&) = delete;

  // Bytes of the packet to a register.
  void load(uint32_t base, uint32_t offset, uint32_t bytes, uint32_t to = kFirst) {
    expression("payload", [&] {
      batch_.add_be32(NFTA_PAYLOAD_DREG, to);
      batch_.add_be32(NFTA_PAYLOAD_BASE, base);
      batch_.add_be32(NFTA_PAYLOAD_OFFSET, offset);
      batch_.add_be32(NFTA_PAYLOAD_LEN, bytes);
    });
  }
  void load_meta(uint32_t key) {
    expression("meta", [&] {
      batch_.add_be32(NFTA_META_DREG, kFirst);
      batch_.add_be32(NFTA_META_KEY, key);
    });
  }
  // From the first register.
  void set_meta(uint32_t key) {
    expression("meta", [&] {
      batch_.add_be32(NFTA_META_SREG, kFirst);
      batch_.add_be32(NFTA_META_KEY, key);
    });
  }
  void mask(uint32_t mask, uint32_t at) {
    const uint32_t none = 0;
    expression("bitwise", [&] {
      batch_.add_be32(NFTA_BITWISE_SREG, at);
      batch_.add_be32(NFTA_BITWISE_DREG, at);
      batch_.add_be32(NFTA_BITWISE_LEN, sizeof(mask));
      value(NFTA_BITWISE_MASK, &mask, sizeof(mask));
      value(NFTA_BITWISE_XOR, &none, sizeof(none));
    });
  }
  void compare(uint32_t operation, const void* data, size_t bytes) {
    expression("cmp", [&] {
      batch_.add_be32(NFTA_CMP_SREG, kFirst);
      batch_.add_be32(NFTA_CMP_OP, operation);
      value(NFTA_CMP_DATA, data, bytes);
    });
  }
  void look_up(const std::string& set) {
    expression("lookup", [&] {
      batch_.add_text(NFTA_LOOKUP_SET, set);
      batch_.add_be32(NFTA_LOOKUP_SREG, kFirst);
    });
  }
  void load_zero() {
    const uint32_t none = 0;
    expression("immediate", [&] {
      batch_.add_be32(NFTA_IMMEDIATE_DREG, kFirst);
      value(NFTA_IMMEDIATE_DATA, &none, sizeof(none));
    });
  }
  void verdict(uint32_t code) {
    expression("immediate", [&] {
      batch_.add_be32(NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      const size_t data = batch_.open(NFTA_IMMEDIATE_DATA);
      const size_t verdict = batch_.open(NFTA_DATA_VERDICT);
      batch_.add_be32(NFTA_VERDICT_CODE, code);
      batch_.close(verdict);
      batch_.close(data);
    });
  }

 private:
  template <typename Add>
  void expression(const char* name, Add&& add) {
    const size_t element = batch_.open(NFTA_LIST_ELEM);
    batch_.add_text(NFTA_EXPR_NAME, name);
    const size_t data = batch_.open(NFTA_EXPR_DATA);
    add();
    batch_.close(data);
    batch_.close(element);
  }
  void value(uint16_t type, const void* data, size_t bytes) {
    const size_t nest = batch_.open(type);
    batch_.add(NFTA_DATA_VALUE, data, bytes);
    batch_.close(nest);
  }

  NetlinkBatch& batch_;
  size_t expressions_;
};

void add_table(NetlinkBatch& batch, uint16_t message, const std::string& table) {
  begin(batch, message, message == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0);
  batch.add_text(NFTA_TABLE_NAME, table);
}

void add_chain(NetlinkBatch& batch, const std::string& table, const char* name, uint32_t hook,
               int32_t priority) {
  begin(batch, NFT_MSG_NEWCHAIN, NLM_F_CREATE);
  batch.add_text(NFTA_CHAIN_TABLE, table);
  batch.add_text(NFTA_CHAIN_NAME, name);
  const size_t at = batch.open(NFTA_CHAIN_HOOK);
  batch.add_be32(NFTA_HOOK_HOOKNUM, hook);
  batch.add_be32(NFTA_HOOK_PRIORITY, static_cast<uint32_t>(priority));
  batch.close(at);
  batch.add_text(NFTA_CHAIN_TYPE, "filter");
}

void add_set(NetlinkBatch& batch, const std::string& table, uint32_t prefix) {
  begin(batch, NFT_MSG_NEWSET, NLM_F_CREATE);
  batch.add_text(NFTA_SET_TABLE, table);
  batch.add_text(NFTA_SET_NAME, set_of(prefix));
  batch.add_be32(NFTA_SET_ID, prefix + 1);
  batch.add_be32(NFTA_SET_KEY_TYPE, kTwoAddresses);
  batch.add_be32(NFTA_SET_KEY_LEN, sizeof(Key));
}

// An attribute's length has 16 bits, and each element takes 28 bytes.
constexpr size_t kElementsPerMessage = 1024;

void add_elements(NetlinkBatch& batch, const std::string& table, uint32_t prefix,
                  const std::set<Element>& elements) {
  size_t count = 0;
  size_t list = 0;
  for (const Element& element : elements) {
    if (element.prefix != prefix) continue;
    if (count % kElementsPerMessage == 0) {
      if (count != 0) batch.close(list);
      begin(batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
      batch.add_text(NFTA_SET_ELEM_LIST_TABLE, table);
      batch.add_text(NFTA_SET_ELEM_LIST_SET, set_of(prefix));
      list = batch.open(NFTA_SET_ELEM_LIST_ELEMENTS);
    }
    ++count;
    const size_t item = batch.open(NFTA_LIST_ELEM);
    const size_t key = batch.open(NFTA_SET_ELEM_KEY);
    batch.add(NFTA_DATA_VALUE, element.key.data(), sizeof(element.key));
    batch.close(key);
    batch.close(item);
  }
  if (count != 0) batch.close(list);
}

// Of IPv4 and UDP headers.
constexpr uint32_t kProtocolAt = 9;
constexpr uint32_t kSourceAt = 12;
constexpr uint32_t kDestinationAt = 16;
constexpr uint32_t kPortAt = 2;

void add_mark_rule(NetlinkBatch& batch, const std::string& table, const FouEnd& end) {
  const uint8_t udp = IPPROTO_UDP;
  const uint32_t local = htonl(end.local);
  const uint16_t port = htons(end.port);
  Rule rule(batch, table, kMarkChain);
  rule.load(NFT_PAYLOAD_NETWORK_HEADER, kProtocolAt, sizeof(udp));
  rule.compare(NFT_CMP_EQ, &udp, sizeof(udp));
  if (end.local != 0) {
    rule.load(NFT_PAYLOAD_NETWORK_HEADER, kDestinationAt, sizeof(local));
    rule.compare(NFT_CMP_EQ, &local, sizeof(local));
  }
  rule.load(NFT_PAYLOAD_TRANSPORT_HEADER, kPortAt, sizeof(port));
  rule.compare(NFT_CMP_EQ, &port, sizeof(port));
  rule.load(NFT_PAYLOAD_NETWORK_HEADER, kSourceAt, sizeof(uint32_t));
  rule.set_meta(NFT_META_MARK);
}

void add_received_rules(NetlinkBatch& batch, const std::string& table,
                        const FouAdmission& admission, const std::set<uint32_t>& prefixes) {
  const auto ifindex = static_cast<uint32_t>(admission.ifindex);
  {
    Rule rule(batch, table, kReceivedChain);
    rule.load_meta(NFT_META_IIF);
    rule.compare(NFT_CMP_NEQ, &ifindex, sizeof(ifindex));
    rule.verdict(NF_ACCEPT);
  }
  {
    const uint32_t own = htonl(admission.own.network);
    Rule rule(batch, table, kReceivedChain);
    rule.load(NFT_PAYLOAD_NETWORK_HEADER, kDestinationAt, sizeof(own));
    rule.mask(htonl(prefix_mask(admission.own.prefix)), kFirst);
    rule.compare(NFT_CMP_NEQ, &own, sizeof(own));
    rule.verdict(NF_DROP);
  }
  for (const uint32_t prefix : prefixes) {
    Rule rule(batch, table, kReceivedChain);
    rule.load_meta(NFT_META_MARK);
    rule.load(NFT_PAYLOAD_NETWORK_HEADER, kSourceAt, sizeof(uint32_t), kSecond);
    rule.mask(htonl(prefix_mask(prefix)), kSecond);
    rule.look_up(set_of(prefix));
    // It has been this table's alone.
    rule.load_zero();
    rule.set_meta(NFT_META_MARK);
    rule.verdict(NF_ACCEPT);
  }
  Rule rule(batch, table, kReceivedChain);
  rule.verdict(NF_DROP);
}

// Rules of the table, and elements of the sets that are wanted.
struct Present {
  size_t rules = 0;
  std::set<Element> elements;
};

Status read_rules(const std::string& table, Present& out) {
  NetlinkBatch batch(NETLINK_NETFILTER);
  begin(batch, NFT_MSG_GETRULE, NLM_F_DUMP);
  batch.add_text(NFTA_RULE_TABLE, table);
  return batch.send("NFT_MSG_GETRULE", [&](nlmsghdr& reply) {
    if (reply.nlmsg_type != type_of(NFT_MSG_NEWRULE)) return;
    // Not every kernel filters by the table that was asked for.
    each_attribute<nfgenmsg>(&reply, [&](uint16_t type, const void* data, size_t bytes) {
      if (type == NFTA_RULE_TABLE && text_of(data, bytes) == table) ++out.rules;
    });
  });
}

Status read_elements(const std::string& table, uint32_t prefix, Present& out) {
  NetlinkBatch batch(NETLINK_NETFILTER);
  begin(batch, NFT_MSG_GETSETELEM, NLM_F_DUMP);
  batch.add_text(NFTA_SET_ELEM_LIST_TABLE, table);
  batch.add_text(NFTA_SET_ELEM_LIST_SET, set_of(prefix));
  constexpr auto kType = static_cast<uint16_t>(NLA_TYPE_MASK);
  return batch.send("NFT_MSG_GETSETELEM", [&](nlmsghdr& reply) {
    each_attribute<nfgenmsg>(&reply, [&](uint16_t list, const void* data, size_t bytes) {
      if ((list & kType) != NFTA_SET_ELEM_LIST_ELEMENTS) return;
      each_nested(data, bytes, [&](uint16_t, const void* item, size_t size) {
        each_nested(item, size, [&](uint16_t part, const void* inner, size_t length) {
          if ((part & kType) != NFTA_SET_ELEM_KEY) return;
          each_nested(inner, length, [&](uint16_t, const void* key, size_t key_bytes) {
            Element found{prefix, {}};
            if (key_bytes != sizeof(found.key)) return;
            std::memcpy(found.key.data(), key, key_bytes);
            out.elements.insert(found);
          });
        });
      });
    });
  });
}

// One to mark, two and the last in front of and behind those of the sets.
constexpr size_t kRulesBesideSets = 4;

}  // namespace

Status put_fou_admission(const FouAdmission& admission) {
  const std::string table = table_of(admission.end);
  const std::set<Element> elements = elements_of(admission.hosts);
  const std::set<uint32_t> prefixes = prefixes_of(elements);
  NetlinkBatch batch(NETLINK_NETFILTER);
  begin_batch(batch, NFNL_MSG_BATCH_BEGIN);
  // Deleting what may not be there is an error, making what is there none.
  add_table(batch, NFT_MSG_NEWTABLE, table);
  add_table(batch, NFT_MSG_DELTABLE, table);
  add_table(batch, NFT_MSG_NEWTABLE, table);
  add_chain(batch, table, kMarkChain, NF_INET_LOCAL_IN, kMarkPriority);
  add_chain(batch, table, kReceivedChain, NF_INET_PRE_ROUTING, kReceivedPriority);
  for (const uint32_t prefix : prefixes) {
    add_set(batch, table, prefix);
    add_elements(batch, table, prefix, elements);
  }
  add_mark_rule(batch, table, admission.end);
  add_received_rules(batch, table, admission, prefixes);
  batch.acknowledge();
  begin_batch(batch, NFNL_MSG_BATCH_END);
  auto refused = batch.send("nf_tables");
  // ENOENT and EOPNOTSUPP: of expressions or chains.
  if (refused)
    refused->detail =
        "nf_tables takes no source check (CONFIG_NF_TABLES_IPV4, or Linux is too old)";
  return refused;
}

Result<bool> has_fou_admission(const FouAdmission& admission) {
  const std::string table = table_of(admission.end);
  const std::set<Element> elements = elements_of(admission.hosts);
  const std::set<uint32_t> prefixes = prefixes_of(elements);
  Present present;
  Status refused = read_rules(table, present);
  for (const uint32_t prefix : prefixes)
    if (!refused) refused = read_elements(table, prefix, present);
  if (refused && refused->number != ENOENT) return std::move(*refused);
  return !refused && present.rules == kRulesBesideSets + prefixes.size() &&
         present.elements == elements;
}

Status remove_fou_admission(const FouEnd& end) {
  const std::string table = table_of(end);
  NetlinkBatch batch(NETLINK_NETFILTER);
  begin_batch(batch, NFNL_MSG_BATCH_BEGIN);
  add_table(batch, NFT_MSG_NEWTABLE, table);
  add_table(batch, NFT_MSG_DELTABLE, table);
  batch.acknowledge();
  begin_batch(batch, NFNL_MSG_BATCH_END);
  auto refused = batch.send("nf_tables");
  if (refused) refused->detail = table;
  return refused;
}

}  // namespace flannelette
