// Cuts random TSO and USO packets twice, by native/core/segment.h and by the kernel's own GSO, and
// compares the packets byte by byte.
//
//   kernel-segments TUN DEVICE SOURCE DESTINATION COUNT SEED
//
//   this program --write--> TUN --forwarding--> veth without offload ~~~> DEVICE --AF_PACKET-->
//   here
//
// TUN has a virtio header (`ip tuntap add mode tun vnet_hdr`), DEVICE is the far end of the veth
// that DESTINATION (numbers, host order) is routed to. On its way a packet loses one of its TTL,
// before it is cut; ours does too. Behind each packet goes a small one that is not to be cut: when
// that arrives, all of the first has.
//
// Prints one JSON object: packets and segments by protocol, how many differ, how many packets the
// kernel did not cut. Exit code 1 when a packet differs, with the first of them on standard error.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../native/random_offload.h"
#include "core/segment.h"
#include "sys/owned_fd.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

constexpr size_t kFrameMax = 65536 + ETH_HLEN;
constexpr int kWaitMs = 5'000;
// Beyond these the report says enough.
constexpr size_t kShownMax = 3;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "kernel-segments: %s: %s\n", what, std::strerror(errno));
  std::exit(2);
}

OwnedFd open_tun(const char* name) {
  OwnedFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  ifreq request{};
  std::snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
  request.ifr_flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
  if (!fd.valid() || ::ioctl(fd.get(), TUNSETIFF, &request) < 0) fail("TUNSETIFF");
  return fd;
}

OwnedFd open_capture(const char* device) {
  OwnedFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IP)));
  sockaddr_ll local{};
  local.sll_family = AF_PACKET;
  local.sll_protocol = htons(ETH_P_IP);
  local.sll_ifindex = static_cast<int>(::if_nametoindex(device));
  const int bytes = 64 * 1024 * 1024;
  if (!fd.valid() || ::bind(fd.get(), reinterpret_cast<sockaddr*>(&local), sizeof(local)) < 0 ||
      ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
    fail("AF_PACKET");
  return fd;
}

// 0, or the errno.
int write_packet(int fd, VirtioNetHeader header, const Bytes& packet) {
  const iovec pieces[2] = {{&header, sizeof(header)},
                           {const_cast<uint8_t*>(packet.data()), packet.size()}};
  return ::writev(fd, pieces, 2) < 0 ? errno : 0;
}

// The next IP packet at the capture, without its Ethernet header.
Bytes read_packet(int fd, Bytes& frame) {
  pollfd ready{fd, POLLIN, 0};
  if (::poll(&ready, 1, kWaitMs) <= 0) fail("no packet arrived");
  const ssize_t length = ::recv(fd, frame.data(), frame.size(), 0);
  if (length < ETH_HLEN + 20) fail("recv");
  return {frame.begin() + ETH_HLEN, frame.begin() + length};
}

std::vector<Bytes> our_segments(const OffloadPacket& offload) {
  Bytes bytes = offload.bytes;
  Ipv4Packet packet;
  if (Ipv4Packet::parse(bytes, packet) != PacketFault::kNone) fail("a packet that is none");
  packet.decrement_ttl();
  SegmentPlan plan;
  if (SegmentPlan::make(offload.offload, packet, plan) != SegmentFault::kNone) return {};
  Bytes all(plan.bytes());
  plan.write(all);
  std::vector<Bytes> out;
  for (size_t at = 0; at < all.size(); at += out.back().size()) {
    const size_t length = out.size() + 1 < plan.count() ? plan.length() : plan.last_length();
    out.emplace_back(all.begin() + static_cast<ptrdiff_t>(at),
                     all.begin() + static_cast<ptrdiff_t>(at + length));
  }
  return out;
}

Bytes marker(uint32_t source, uint32_t destination, uint32_t number) {
  return numbered_packet(number, 64, {.source = source, .destination = destination});
}

struct Tally {
  size_t packets = 0;
  size_t segments = 0;
  size_t different = 0;
  size_t not_cut = 0;  // the kernel's drops
  size_t refused = 0;  // writes that were refused
};

void print(const char* name, const Tally& tally, const char* end) {
  std::printf(
      "\"%s\":{\"packets\":%zu,\"segments\":%zu,\"different\":%zu,\"notCut\":%zu,\"refused\":%zu}%"
      "s",
      name, tally.packets, tally.segments, tally.different, tally.not_cut, tally.refused, end);
}

void show(const OffloadPacket& packet, const std::vector<Bytes>& ours,
          const std::vector<Bytes>& theirs) {
  std::fprintf(stderr, "%zu bytes, protocol %u, IHL %u, gso_size %u, gso_type %u: %zu and %zu\n",
               packet.bytes.size(), packet.bytes[9], packet.bytes[0] & 15U, packet.offload.gso_size,
               packet.offload.gso_type, ours.size(), theirs.size());
  for (size_t i = 0; i < ours.size() && i < theirs.size(); ++i) {
    if (ours[i] == theirs[i]) continue;
    for (size_t at = 0; at < ours[i].size() && at < theirs[i].size(); ++at)
      if (ours[i][at] != theirs[i][at])
        std::fprintf(stderr, "  segment %zu of %zu bytes, at %zu: ours %02x, kernel's %02x\n", i,
                     ours[i].size(), at, ours[i][at], theirs[i][at]);
    return;
  }
}

// One CPU, so that nothing overtakes on the way.
void stay_here() {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(::sched_getcpu()), &set);
  if (::sched_setaffinity(0, sizeof(set), &set) < 0) fail("sched_setaffinity");
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 7) fail("TUN DEVICE SOURCE DESTINATION COUNT SEED");
  const OwnedFd tun = open_tun(arguments[1]);
  const OwnedFd capture = open_capture(arguments[2]);
  const OffloadRange range{
      .source = static_cast<uint32_t>(std::strtoul(arguments[3], nullptr, 10)),
      .destination = static_cast<uint32_t>(std::strtoul(arguments[4], nullptr, 10)),
      .without_checksum = 5};
  const size_t total = std::strtoul(arguments[5], nullptr, 10);
  RandomOffload random(std::strtoull(arguments[6], nullptr, 10));
  stay_here();

  Tally tcp;
  Tally udp;
  Bytes frame(kFrameMax);
  size_t shown = 0;
  for (size_t i = 0; i < total; ++i) {
    const OffloadPacket packet = random.next(range);
    Tally& tally = packet.bytes[9] == 6 ? tcp : udp;
    if (write_packet(tun.get(), packet.offload, packet.bytes) != 0) {
      ++tally.refused;
      continue;
    }
    const Bytes last = marker(range.source, range.destination, static_cast<uint32_t>(i));
    if (write_packet(tun.get(), {}, last) != 0) fail("write");
    const Bytes end = one_hop_later(last);
    std::vector<Bytes> theirs;
    for (Bytes next = read_packet(capture.get(), frame); next != end;
         next = read_packet(capture.get(), frame))
      theirs.push_back(std::move(next));
    const std::vector<Bytes> ours = our_segments(packet);
    ++tally.packets;
    tally.segments += theirs.size();
    if (theirs.empty()) {
      ++tally.not_cut;
      if (shown++ < kShownMax) show(packet, ours, theirs);
    } else if (ours != theirs) {
      ++tally.different;
      if (shown++ < kShownMax) show(packet, ours, theirs);
    }
  }
  std::printf("{");
  print("tcp", tcp, ",");
  print("udp", udp, "}\n");
  return tcp.different + udp.different == 0 ? 0 : 1;
}
