#include "sys/fou_admission.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
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

#include "sys/netlink_dump.h"
#include "sys/nf_tables.h"

namespace flannelette {

namespace {

constexpr const char* kMarkChain = "mark_source";
constexpr const char* kReceivedChain = "received";

// What nft(8) calls ipv4_addr . ipv4_addr: six bits each.
constexpr uint32_t kAddressType = 7;
constexpr uint32_t kTwoAddresses = kAddressType << 6 | kAddressType;

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

void add_set(NetlinkBatch& batch, const std::string& table, uint32_t prefix) {
  begin_nft(batch, NFT_MSG_NEWSET, NLM_F_CREATE);
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
      begin_nft(batch, NFT_MSG_NEWSETELEM, NLM_F_CREATE);
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

void add_mark_rule(NetlinkBatch& batch, const std::string& table, const FouEnd& end) {
  NftRule rule(batch, table, kMarkChain);
  rule.match_udp(end.local, end.port);
  rule.load(NFT_PAYLOAD_NETWORK_HEADER, kSourceAt, sizeof(uint32_t));
  rule.set_meta(NFT_META_MARK);
}

void add_received_rules(NetlinkBatch& batch, const std::string& table,
                        const FouAdmission& admission, const std::set<uint32_t>& prefixes) {
  const auto ifindex = static_cast<uint32_t>(admission.ifindex);
  const uint32_t none = 0;
  {
    NftRule rule(batch, table, kReceivedChain);
    rule.load_meta(NFT_META_IIF);
    rule.compare(NFT_CMP_NEQ, &ifindex, sizeof(ifindex));
    rule.verdict(NF_ACCEPT);
  }
  {
    const uint32_t own = htonl(admission.own.network);
    NftRule rule(batch, table, kReceivedChain);
    rule.load(NFT_PAYLOAD_NETWORK_HEADER, kDestinationAt, sizeof(own));
    rule.mask(htonl(prefix_mask(admission.own.prefix)), NftRule::kFirst);
    rule.compare(NFT_CMP_NEQ, &own, sizeof(own));
    rule.verdict(NF_DROP);
  }
  for (const uint32_t prefix : prefixes) {
    NftRule rule(batch, table, kReceivedChain);
    rule.load_meta(NFT_META_MARK);
    rule.load(NFT_PAYLOAD_NETWORK_HEADER, kSourceAt, sizeof(uint32_t), NftRule::kSecond);
    rule.mask(htonl(prefix_mask(prefix)), NftRule::kSecond);
    rule.look_up(set_of(prefix));
    // It has been this table's alone.
    rule.load_value(&none, sizeof(none));
    rule.set_meta(NFT_META_MARK);
    rule.verdict(NF_ACCEPT);
  }
  NftRule rule(batch, table, kReceivedChain);
  rule.verdict(NF_DROP);
}

// Rules of the table, and elements of the sets that are wanted.
struct Present {
  size_t rules = 0;
  std::set<Element> elements;
};

Status read_rules(const std::string& table, Present& out) {
  NetlinkBatch batch(NETLINK_NETFILTER);
  begin_nft(batch, NFT_MSG_GETRULE, NLM_F_DUMP);
  batch.add_text(NFTA_RULE_TABLE, table);
  return batch.send("NFT_MSG_GETRULE", [&](nlmsghdr& reply) {
    if (reply.nlmsg_type != nft_type(NFT_MSG_NEWRULE)) return;
    // Not every kernel filters by the table that was asked for.
    each_attribute<nfgenmsg>(&reply, [&](uint16_t type, const void* data, size_t bytes) {
      if (type == NFTA_RULE_TABLE && text_of(data, bytes) == table) ++out.rules;
    });
  });
}

Status read_elements(const std::string& table, uint32_t prefix, Present& out) {
  NetlinkBatch batch(NETLINK_NETFILTER);
  begin_nft(batch, NFT_MSG_GETSETELEM, NLM_F_DUMP);
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
  auto refused = replace_nft_table(table, [&](NetlinkBatch& batch) {
    add_nft_chain(batch, table, kMarkChain, NF_INET_LOCAL_IN, kAfterAllPriority);
    add_nft_chain(batch, table, kReceivedChain, NF_INET_PRE_ROUTING, kBeforeAllPriority);
    for (const uint32_t prefix : prefixes) {
      add_set(batch, table, prefix);
      add_elements(batch, table, prefix, elements);
    }
    add_mark_rule(batch, table, admission.end);
    add_received_rules(batch, table, admission, prefixes);
  });
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

Status remove_fou_admission(const FouEnd& end) { return remove_nft_table(table_of(end)); }

}  // namespace flannelette
