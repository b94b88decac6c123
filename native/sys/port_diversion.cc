#include "sys/port_diversion.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>

#include <cstdio>
#include <string>

#include "sys/nf_tables.h"

namespace flannelette {

namespace {

constexpr const char* kChain = "divert";

// At most 31 characters before Linux 4.14.
std::string table_of(uint32_t local, uint16_t port) {
  char name[32];
  std::snprintf(name, sizeof(name), "flannelette-port-%08x%04x", local, port);
  return name;
}

// A checksum of 0 says that there is none, and has to stay.
void add_rule(NetlinkBatch& batch, const std::string& table, uint32_t local, uint16_t port,
              uint16_t other, bool has_checksum) {
  const uint16_t none = 0;
  const uint16_t to = htons(other);
  NftRule rule(batch, table, kChain);
  rule.match_udp(local, port);
  rule.load(NFT_PAYLOAD_TRANSPORT_HEADER, kUdpChecksumAt, sizeof(none));
  rule.compare(has_checksum ? NFT_CMP_NEQ : NFT_CMP_EQ, &none, sizeof(none));
  rule.load_value(&to, sizeof(to));
  if (has_checksum)
    rule.store(NFT_PAYLOAD_TRANSPORT_HEADER, kPortAt, sizeof(to), kUdpChecksumAt);
  else
    rule.store(NFT_PAYLOAD_TRANSPORT_HEADER, kPortAt, sizeof(to));
}

}  // namespace

Result<OwnedFd> put_port_diversion(uint32_t local, uint16_t port, uint16_t other) {
  const std::string table = table_of(local, port);
  const auto fill = [&](NetlinkBatch& batch) {
    add_nft_chain(batch, table, kChain, NF_INET_LOCAL_IN, kAfterAllPriority);
    add_rule(batch, table, local, port, other, true);
    add_rule(batch, table, local, port, other, false);
  };
  OwnedFd owner;
  auto refused = replace_nft_table(table, fill, &owner);
  if (!refused) return owner;
  refused->detail = "nf_tables diverts no UDP port (it takes Linux 4.5)";
  return std::move(*refused);
}

Status remove_port_diversion(uint32_t local, uint16_t port) {
  return remove_nft_table(table_of(local, port));
}

}  // namespace flannelette
