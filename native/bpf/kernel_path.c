// Three programs that let the kernel carry the tunnel's packets by itself, on the same wire: one
// IPv4 packet is the payload of one UDP datagram.
//
//   flannel0 (TUN) egress      encapsulate   route known: outer headers, out by the underlay
//   underlay ingress           decapsulate   ours and trusted: 8 bytes of a VXLAN-GPE header put
//   in,
//                                            the port changed to that of the decapsulation device
//   decapsulation device       admit         only what decapsulate has marked; goes on as received
//     (vxlan external gpe)                   by flannel0
//
// The kernel's VXLAN device takes the datagram apart because nothing else does it with the state of
// segmentation and checksum offload put right (BPF_F_ADJ_ROOM_DECAP_L4_UDP is newer than
// Linux 6.18).
//
// What a program does not take goes on as if it were not there, to the daemon in user space, which
// answers, drops and counts: no route, TTL 1, IP options, what is longer than the path to the host
// takes, what fails the source check, trains.
//
// Built to kernel_path.inc by `npm run bpf`; a test holds that both agree.
#include "bpf/kernel_path.h"

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#define ALWAYS_INLINE inline __attribute__((always_inline))
#define SECTION(name) __attribute__((section(name), used))
// Fields of struct __sk_buff that direct access needs as pointers.
#define POINTER(field) ((void*)(long)(field))
#define SWAP16(value) ((__u16)__builtin_bswap16(value))
#define SWAP32(value) ((__u32)__builtin_bswap32(value))

static void* (*const map_lookup_elem)(void*, const void*) = (void*)BPF_FUNC_map_lookup_elem;
static long (*const skb_store_bytes)(void*, __u32, const void*, __u32,
                                     __u64) = (void*)BPF_FUNC_skb_store_bytes;
static long (*const skb_pull_data)(void*, __u32) = (void*)BPF_FUNC_skb_pull_data;
static long (*const skb_change_head)(void*, __u32, __u64) = (void*)BPF_FUNC_skb_change_head;
static long (*const skb_adjust_room)(void*, __s32, __u32, __u64) = (void*)BPF_FUNC_skb_adjust_room;
static __u64 (*const ktime_get_ns)(void) = (void*)BPF_FUNC_ktime_get_ns;
static __u32 (*const get_prandom_u32)(void) = (void*)BPF_FUNC_get_prandom_u32;
static long (*const redirect)(__u32, __u64) = (void*)BPF_FUNC_redirect;
static long (*const redirect_neigh)(__u32, void*, int, __u64) = (void*)BPF_FUNC_redirect_neigh;

struct map {
  __u32 type;
  __u32 key_size;
  __u32 value_size;
  __u32 max_entries;
  __u32 flags;
};

struct map SECTION("maps") settings = {BPF_MAP_TYPE_ARRAY, sizeof(__u32),
                                       sizeof(struct kernel_path_settings), 1, 0};
struct map SECTION("maps") hosts = {BPF_MAP_TYPE_LPM_TRIE, sizeof(struct kernel_path_subnet),
                                    sizeof(struct kernel_path_host), KERNEL_PATH_HOSTS_MAX,
                                    BPF_F_NO_PREALLOC};
struct map SECTION("maps") counters = {BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(__u32), sizeof(__u64),
                                       KERNEL_PATH_COUNTERS, 0};

// The next program, or the stack: the same number for tcx (Linux 6.6) and clsact.
#define PASS (-1)
#define DROP 2

#define OUTER (sizeof(struct iphdr) + sizeof(struct udphdr))
#define NO_OPTIONS 0x45
#define FRAGMENT 0x3fff
#define HOPS 64

struct vxlan_gpe {
  __u32 flags;
  __u32 vni;
};
#define VXLAN_GPE_IPV4 0x0c000001

static ALWAYS_INLINE void count(__u32 which, __u64 amount) {
  __u64* counter = map_lookup_elem(&counters, &which);
  if (counter) *counter += amount;
}

static ALWAYS_INLINE const struct kernel_path_settings* find_settings(void) {
  const __u32 first = 0;
  return map_lookup_elem(&settings, &first);
}

// The host that holds the lease, if any.
static ALWAYS_INLINE const struct kernel_path_host* host_of(__u32 address) {
  struct kernel_path_subnet key = {32, address};
  return map_lookup_elem(&hosts, &key);
}

// IPv4 and TCP with timestamps, as Linux sends it.
#define INNER_HEADERS 52

// On the wire; `headers` are in front of the inner packet. What came through encapsulate and no
// network card, as from another container of this machine, has lost its gso_segs
// (bpf_skb_adjust_room) and is counted by its bytes.
static ALWAYS_INLINE __u64 packets_of(const struct __sk_buff* skb, __u32 headers) {
  const __u32 segments = skb->gso_segs, size = skb->gso_size, once = headers + INNER_HEADERS;
  if (segments) return segments;
  if (size == 0 || skb->len <= once) return 1;
  return (skb->len - once + size - 1) / size;
}

static ALWAYS_INLINE __u16 header_checksum(const struct iphdr* ip) {
  const __u16* words = (const __u16*)ip;
  __u32 sum = 0;
#pragma clang loop unroll(full)
  for (int i = 0; i < 10; i++) sum += words[i];
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)~sum;
}

// As the kernel's ip_decrease_ttl.
static ALWAYS_INLINE void decrease_ttl(struct iphdr* ip) {
  __u32 check = ip->check;
  check += SWAP16(0x0100);
  ip->check = (__u16)(check + (check >= 0xffff));
  ip->ttl--;
}

static ALWAYS_INLINE int has_bytes(struct __sk_buff* skb, __u32 bytes) {
  if (POINTER(skb->data) + bytes <= POINTER(skb->data_end)) return 1;
  return skb_pull_data(skb, bytes) == 0;
}

// Bytes of the longest packet that travels: of a train, each of its packets but the last.
static ALWAYS_INLINE __u32 longest_packet(struct __sk_buff* skb, __u32 length) {
  const __u32 size = skb->gso_size;
  if (size == 0 || !has_bytes(skb, sizeof(struct iphdr) + sizeof(struct tcphdr))) return length;
  const struct iphdr* ip = POINTER(skb->data);
  const struct tcphdr* tcp = (const void*)(ip + 1);
  if ((void*)(tcp + 1) > POINTER(skb->data_end)) return length;
  const __u32 transport =
      ip->protocol == IPPROTO_TCP ? (__u32)tcp->doff * 4 : sizeof(struct udphdr);
  return size + sizeof(struct iphdr) + transport;
}

SECTION("tc/encapsulate") int encapsulate(struct __sk_buff* skb) {
  const struct kernel_path_settings* config = find_settings();
  if (!config || skb->protocol != SWAP16(ETH_P_IP)) return PASS;
  if (!has_bytes(skb, sizeof(struct iphdr))) return PASS;
  struct iphdr* inner = POINTER(skb->data);
  if ((void*)(inner + 1) > POINTER(skb->data_end)) return PASS;
  const __u32 length = skb->len;
  if (*(__u8*)inner != NO_OPTIONS || inner->ttl <= 1) return PASS;
  if (SWAP16(inner->tot_len) != length || length + OUTER > 0xffff) return PASS;
  // The stack's own packets are right; a wrong one is the daemon's to count.
  if (header_checksum(inner)) return PASS;
  const struct kernel_path_host* to = host_of(inner->daddr);
  if (!to) return PASS;
  const __u32 host = to->address, limit = to->mtu;
  if (limit != 0 && longest_packet(skb, length) > limit) return PASS;

  const __u64 packets = packets_of(skb, 0);
  if (skb_adjust_room(
          skb, OUTER, BPF_ADJ_ROOM_MAC,
          BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP))
    return PASS;
  struct {
    struct iphdr ip;
    struct udphdr udp;
  } outer = {};
  *(__u8*)&outer.ip = NO_OPTIONS;
  outer.ip.tot_len = SWAP16((__u16)(length + OUTER));
  outer.ip.id = (__u16)get_prandom_u32();
  outer.ip.ttl = HOPS;
  outer.ip.protocol = IPPROTO_UDP;
  outer.ip.saddr = config->local;
  outer.ip.daddr = host;
  outer.ip.check = header_checksum(&outer.ip);
  outer.udp.source = config->port;
  outer.udp.dest = config->port;
  outer.udp.len = SWAP16((__u16)(length + sizeof(struct udphdr)));
  if (skb_store_bytes(skb, 0, &outer, sizeof(outer), 0)) return DROP;
  if (!has_bytes(skb, OUTER + sizeof(struct iphdr))) return DROP;
  inner = POINTER(skb->data) + OUTER;
  if ((void*)(inner + 1) > POINTER(skb->data_end)) return DROP;
  decrease_ttl(inner);
  // redirect_neigh wants room for the link's header, and a device that has none gives none.
  if (skb_change_head(skb, sizeof(struct ethhdr), 0)) return DROP;
  count(KERNEL_PATH_SENT_PACKETS, packets);
  count(KERNEL_PATH_SENT_BYTES, length);
  return redirect_neigh(config->underlay, 0, 0, 0);
}

SECTION("tc/decapsulate") int decapsulate(struct __sk_buff* skb) {
  const struct kernel_path_settings* config = find_settings();
  if (!config || skb->protocol != SWAP16(ETH_P_IP)) return PASS;
  const __u32 headers = sizeof(struct ethhdr) + OUTER + sizeof(struct iphdr);
  // Most packets are none of the tunnel's: no work for them but this.
  struct iphdr* outer = POINTER(skb->data) + sizeof(struct ethhdr);
  if ((void*)(outer + 1) > POINTER(skb->data_end)) {
    if (!has_bytes(skb, headers)) return PASS;
    outer = POINTER(skb->data) + sizeof(struct ethhdr);
    if ((void*)(outer + 1) > POINTER(skb->data_end)) return PASS;
  }
  if (*(__u8*)outer != NO_OPTIONS || outer->protocol != IPPROTO_UDP) return PASS;
  // For another host, or for all on the segment: the stack knows what to do with it.
  if (skb->pkt_type != PACKET_HOST) return PASS;
  if (outer->daddr != config->local || (outer->frag_off & SWAP16(FRAGMENT))) return PASS;
  if (!has_bytes(skb, headers)) return PASS;
  outer = POINTER(skb->data) + sizeof(struct ethhdr);
  struct udphdr* udp = (void*)(outer + 1);
  struct iphdr* inner = (void*)(udp + 1);
  if ((void*)(inner + 1) > POINTER(skb->data_end)) return PASS;
  if (udp->dest != config->port || ktime_get_ns() > config->alive_until_ns) return PASS;

  const __u32 length = SWAP16(inner->tot_len);
  if (*(__u8*)inner != NO_OPTIONS || inner->ttl <= 1) return PASS;
  // Else a train of datagrams, or one whose length is wrong. The stack would cut the frame to the
  // outer lengths, which are written anew below.
  if (length + OUTER + sizeof(struct ethhdr) != skb->len) return PASS;
  if (SWAP16(outer->tot_len) != length + OUTER) return PASS;
  if (SWAP16(udp->len) != length + sizeof(struct udphdr)) return PASS;
  if ((inner->daddr & config->own_mask) != config->own_network) return PASS;
  const struct kernel_path_host* from = host_of(inner->saddr);
  if (config->source_check && (!from || from->address != outer->saddr)) return PASS;

  // The outer header is summed again below, which would put a wrong sum right; a wrong inner one is
  // the daemon's to count.
  if (header_checksum(outer) || header_checksum(inner)) return PASS;

  const __u64 packets = packets_of(skb, sizeof(struct ethhdr) + OUTER);
  if (skb_adjust_room(skb, sizeof(struct vxlan_gpe), BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO))
    return PASS;
  const struct {
    struct udphdr udp;
    struct vxlan_gpe vxlan;
  } added = {
      // No checksum: it was one over other bytes. The packet's own is the receiver's to check.
      {config->port, config->decapsulation_port,
       SWAP16((__u16)(length + sizeof(struct udphdr) + sizeof(struct vxlan_gpe))), 0},
      {SWAP32(VXLAN_GPE_IPV4), 0},
  };
  const __u32 udp_at = sizeof(struct ethhdr) + sizeof(struct iphdr);
  if (skb_store_bytes(skb, udp_at, &added, sizeof(added), BPF_F_RECOMPUTE_CSUM)) return DROP;
  if (!has_bytes(skb, headers + sizeof(struct vxlan_gpe))) return DROP;
  outer = POINTER(skb->data) + sizeof(struct ethhdr);
  inner = (void*)outer + OUTER + sizeof(struct vxlan_gpe);
  if ((void*)(inner + 1) > POINTER(skb->data_end)) return DROP;
  outer->tot_len = SWAP16((__u16)(length + OUTER + sizeof(struct vxlan_gpe)));
  outer->check = 0;
  outer->check = header_checksum(outer);
  decrease_ttl(inner);
  skb->mark = KERNEL_PATH_MARK;
  count(KERNEL_PATH_TAKEN_PACKETS, packets);
  return PASS;
}

SECTION("tc/admit") int admit(struct __sk_buff* skb) {
  const struct kernel_path_settings* config = find_settings();
  // A mark cannot be sent: it says that the packet came by decapsulate, not straight to the port.
  if (!config || skb->mark != KERNEL_PATH_MARK) {
    count(KERNEL_PATH_REFUSED_PACKETS, 1);
    return DROP;
  }
  skb->mark = 0;
  count(KERNEL_PATH_RECEIVED_PACKETS, packets_of(skb, 0));
  count(KERNEL_PATH_RECEIVED_BYTES, skb->len);
  return redirect(config->tun, BPF_F_INGRESS);
}
