// The kernel's programs (native/bpf) against the checks in user space: random, valid and damaged
// packets go through both, one by one.
//
//   kernel-differential COUNT SEED SOURCE_CHECK
//
// Runs in a network namespace with a veth pair: eth0, the external interface at 10.168.0.2/24, and
// `wire`, its far end. Nodes 2 and 3 are neighbours for good; nothing is forwarded.
//
//   out:  packet --> flannel0 --[encapsulate]--> wire, or the TUN's queue: left to the daemon
//   in:   frame --> wire --> eth0 --[decapsulate, admit]--> flannel0, or the socket: left to the
//         daemon; then all frames once more without the programs, which is what the daemon gets
//
// What the programs leave to the daemon is never a difference. One is: a packet they take that the
// daemon would drop; other bytes, or another host, than the daemon's; a packet that is changed and
// left; one that neither gets although the daemon would carry it. Known, and counted apart: the
// programs do not look at the outer UDP checksum (docs/kernel-mode.md). A packet that is known to
// arrive follows each, so that nothing is waited for.
//
// Prints one JSON object; exit code 1 when there is a difference, the first of them on standard
// error.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "../native/scripted_io.h"
#include "engine/decapsulation.h"
#include "engine/encapsulation.h"
#include "sys/kernel_path.h"
#include "sys/tun.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

constexpr int kWaitMs = 5'000;
constexpr size_t kShownMax = 3;
constexpr size_t kOuter = 28;
constexpr uint16_t kPort = 8285;
constexpr uint32_t kMtu = 1472;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "kernel-differential: %s: %s\n", what, std::strerror(errno));
  std::exit(2);
}

template <typename T>
T need(Result<T> result, const char* what) {
  if (result.ok()) return std::move(result.value());
  errno = result.error().number;
  fail(what);
}

void need(const Status& refused, const char* what) {
  if (!refused) return;
  errno = refused->number;
  fail(what);
}

// Of one device: frames as they are with SOCK_RAW; only what comes in.
OwnedFd packet_socket(const char* device, int protocol) {
  OwnedFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1;
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(static_cast<uint16_t>(protocol));
  address.sll_ifindex = static_cast<int>(::if_nametoindex(device));
  if (!fd.valid() ||
      ::setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) != 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    fail(device);
  return fd;
}

// Sends by a device, as if the stack had.
void inject(const OwnedFd& fd, int ifindex, const Bytes& bytes) {
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(ETH_P_IP);
  to.sll_ifindex = ifindex;
  if (::sendto(fd.get(), bytes.data(), bytes.size(), 0, reinterpret_cast<const sockaddr*>(&to),
               sizeof(to)) < 0 &&
      errno != EMSGSIZE && errno != EINVAL)
    fail("sendto");
}

struct Received {
  Bytes bytes;
  uint32_t source = 0;  // of a datagram
};

std::optional<Received> receive(const OwnedFd& fd) {
  Received out;
  out.bytes.resize(65536);
  sockaddr_storage from{};
  socklen_t length = sizeof(from);
  const ssize_t got = ::recvfrom(fd.get(), out.bytes.data(), out.bytes.size(), 0,
                                 reinterpret_cast<sockaddr*>(&from), &length);
  if (got < 0) return std::nullopt;
  out.bytes.resize(static_cast<size_t>(got));
  if (from.ss_family == AF_INET)
    out.source = ntohl(reinterpret_cast<const sockaddr_in&>(from).sin_addr.s_addr);
  return out;
}

std::optional<Received> read_tun(int fd) {
  Received out;
  out.bytes.resize(65536);
  const ssize_t got = ::read(fd, out.bytes.data(), out.bytes.size());
  if (got < 0) return std::nullopt;
  out.bytes.resize(static_cast<size_t>(got));
  return out;
}

// Takes from `next` until it gives what `is_last` knows; what came before that.
template <typename Next, typename Last>
std::vector<Received> until(int fd, Next next, Last is_last) {
  std::vector<Received> out;
  for (;;) {
    while (std::optional<Received> one = next()) {
      if (is_last(one->bytes)) return out;
      out.push_back(std::move(*one));
    }
    pollfd ready{fd, POLLIN, 0};
    if (::poll(&ready, 1, kWaitMs) <= 0) {
      errno = ETIMEDOUT;
      fail("the packet behind");
    }
  }
}

template <typename Next>
std::vector<Received> all(Next next) {
  std::vector<Received> out;
  while (std::optional<Received> one = next()) out.push_back(std::move(*one));
  return out;
}

class Packets {
 public:
  explicit Packets(uint64_t seed) : random_(seed) {}

  size_t below(size_t bound) { return static_cast<size_t>(random_() % bound); }
  bool chance(size_t percent) { return below(100) < percent; }
  template <size_t kCount>
  uint32_t one_of(const std::array<uint32_t, kCount>& values) {
    return values[below(kCount)];
  }

  Bytes inner(uint32_t source, uint32_t destination, uint16_t id) {
    PacketSpec spec{.source = source, .destination = destination, .id = id};
    constexpr std::array<uint32_t, 4> kProtocols = {1, 6, 17, 47};
    spec.protocol = static_cast<uint8_t>(one_of(kProtocols));
    spec.ttl = static_cast<uint8_t>(chance(10) ? below(3) : 2 + below(254));
    spec.options = chance(5) ? 4 * (1 + below(10)) : 0;
    spec.fragment = static_cast<uint16_t>(chance(10) ? below(65536) : chance(50) ? 0x4000 : 0);
    spec.payload.resize(chance(10) ? below(8) : below(1300));
    for (uint8_t& byte : spec.payload) byte = static_cast<uint8_t>(random_());
    Bytes out = make_packet(spec);
    const bool udp = spec.protocol == 17;
    if (spec.payload.size() >= 20 && (udp || spec.protocol == 6)) {
      const size_t header = 20 + spec.options;
      if (udp) put_word(out, header + 4, static_cast<uint32_t>(spec.payload.size()));
      if (chance(80)) fix_transport_checksum(out);
    }
    if (chance(30)) damage(out, 20);
    if (chance(3)) out.resize(below(out.size() + 1));
    if (chance(3)) out.resize(std::min<size_t>(out.size() + 1 + below(40), kMtu));
    return out;
  }

  // Some bits of the first bytes; then perhaps the checksum put right.
  void damage(Bytes& bytes, size_t first) {
    if (bytes.size() < 20) return;
    for (size_t i = 1 + below(3); i > 0; --i)
      bytes[below(std::min(first, bytes.size()))] ^= static_cast<uint8_t>(1U << below(8));
    const size_t header = size_t{bytes[0] & 15U} * 4;
    if (chance(70) && header >= 20 && header <= bytes.size()) fix_checksum(bytes);
  }

 private:
  std::mt19937_64 random_;
};

struct Tally {
  size_t packets = 0;
  size_t taken = 0;
  size_t left = 0;
  size_t different = 0;
  size_t unchecked = 0;  // taken with a wrong outer UDP checksum
};

void show(const Tally& tally, const char* way, const char* what, const Bytes& bytes) {
  if (tally.different > kShownMax) return;
  std::fprintf(stderr, "%s: %s:", way, what);
  for (size_t i = 0; i < std::min<size_t>(bytes.size(), 96); ++i)
    std::fprintf(stderr, "%s%02x", i % 4 == 0 ? " " : "", bytes[i]);
  std::fprintf(stderr, " (%zu bytes)\n", bytes.size());
}

// A payload that no random packet has.
const Bytes kMagic = {'l', 'a', 's', 't', ' ', 'o', 'n', 'e', 0, 1, 2, 3, 4, 5, 6, 7};

bool is_magic(const Bytes& bytes) {
  return bytes.size() >= kMagic.size() &&
         std::equal(kMagic.begin(), kMagic.end(),
                    bytes.end() - static_cast<ptrdiff_t>(kMagic.size()));
}

Bytes last_packet(uint32_t source, uint32_t destination) {
  return make_packet(
      {.source = source, .destination = destination, .protocol = 99, .payload = kMagic});
}

struct Wires {
  OwnedFd wire;     // frames
  OwnedFd flannel;  // packets
  OwnedFd udp;
  int tun_fd;
  int wire_index;
  int flannel_index;
  std::array<uint8_t, 6> mac;  // of eth0
};

// Out: by the programs, and by the loop.
Tally go_out(Wires& wires, Packets& random, size_t count) {
  Tally tally;
  Rig rig;
  Encapsulation loop(rig.context(Mode::kBasic));
  constexpr std::array<uint32_t, 5> kTo = {kContainer2, kContainer2, kContainer3, kContainer1,
                                           test::ip(100, 96, 9, 9)};
  const Bytes last = last_packet(kContainer1, kContainer2);
  for (size_t i = 0; i < count; ++i) {
    const Bytes packet = random.inner(kContainer1, random.one_of(kTo), static_cast<uint16_t>(i));
    if (packet.empty()) continue;
    ++tally.packets;
    inject(wires.flannel, wires.flannel_index, packet);
    inject(wires.flannel, wires.flannel_index, last);
    const std::vector<Received> sent = until(
        wires.wire.get(), [&] { return receive(wires.wire); }, is_magic);
    const std::vector<Received> queued = all([&] { return read_tun(wires.tun_fd); });

    rig.io.reset();
    rig.io.tun_reads.push_back({packet, 0});
    loop.carry();
    const std::vector<SentDatagram>& daemon = rig.io.sent;
    const char* fault = nullptr;
    const Bytes* frame = nullptr;
    for (const Received& one : sent)
      if (one.bytes.size() >= ETH_HLEN + kOuter && one.bytes[ETH_HLEN + 9] == 17)
        frame = &one.bytes;
    if (frame != nullptr) {
      ++tally.taken;
      const Bytes outer(frame->begin() + ETH_HLEN, frame->end());
      const Bytes payload(outer.begin() + kOuter, outer.end());
      if (daemon.empty()) {
        fault = "taken, and the daemon drops it";
      } else if (payload != daemon[0].bytes) {
        fault = "other bytes than the daemon's";
      } else if (long_at(outer, 16) != daemon[0].destination || long_at(outer, 12) != kNode1) {
        fault = "another host than the daemon's";
      } else if (word_at(outer, 2) != outer.size() || word_at(outer, 24) != outer.size() - 20 ||
                 naive_checksum(std::span(outer).first(20)) != 0 || word_at(outer, 22) != kPort) {
        fault = "a wrong outer header";
      } else if (!queued.empty()) {
        fault = "taken, and left to the daemon too";
      }
    } else if (!queued.empty()) {
      ++tally.left;
      if (queued[0].bytes != packet) fault = "left with other bytes";
    } else if (!daemon.empty()) {
      fault = "lost";
    }
    if (fault == nullptr) continue;
    ++tally.different;
    show(tally, "out", fault, packet);
  }
  return tally;
}

Bytes datagram(uint32_t source, uint32_t destination, const Bytes& payload, uint16_t id) {
  PacketSpec spec{.source = source, .destination = destination, .protocol = 17, .id = id};
  spec.payload.resize(8);
  put_word(spec.payload, 0, kPort);
  put_word(spec.payload, 2, kPort);
  put_word(spec.payload, 4, static_cast<uint32_t>(8 + payload.size()));
  spec.payload.insert(spec.payload.end(), payload.begin(), payload.end());
  return make_packet(spec);
}

Bytes frame_of(const Wires& wires, const Bytes& packet) {
  Bytes out(wires.mac.begin(), wires.mac.end());
  out.insert(out.end(), {2, 0, 0, 0, 0, 3, 8, 0});
  out.insert(out.end(), packet.begin(), packet.end());
  return out;
}

Bytes random_frame(const Wires& wires, Packets& random, uint16_t id) {
  constexpr std::array<uint32_t, 6> kFrom = {kContainer2, kContainer2, kContainer3,
                                             kNode2,      kContainer1, test::ip(192, 0, 2, 1)};
  constexpr std::array<uint32_t, 6> kTo = {kContainer1, kContainer1, kContainer1,
                                           kGateway1,   kContainer3, kNode1};
  constexpr std::array<uint32_t, 5> kNodes = {kNode2, kNode2, kNode2, kNode3, kStranger};
  const Bytes inner = random.inner(random.one_of(kFrom), random.one_of(kTo), id);
  Bytes outer = datagram(random.one_of(kNodes), kNode1, inner, id);
  if (random.chance(40)) fix_transport_checksum(outer);
  if (random.chance(5)) put_word(outer, 26, static_cast<uint32_t>(1 + random.below(65535)));
  // The UDP length, or that of the IP packet, says another number of bytes.
  if (random.chance(5)) put_word(outer, 24, static_cast<uint32_t>(random.below(outer.size() + 8)));
  if (random.chance(5)) {
    put_word(outer, 2, static_cast<uint32_t>(20 + random.below(outer.size())));
    if (random.chance(50)) put_word(outer, 24, word_at(outer, 2) - 20U);
    fix_checksum(outer);
  }
  if (random.chance(10)) random.damage(outer, 28);
  Bytes frame = frame_of(wires, outer);
  // Padding of short frames, as Ethernet has it, and longer.
  if (random.chance(5)) frame.resize(frame.size() + 1 + random.below(40));
  return frame;
}

// What came of a frame.
struct Arrival {
  std::vector<Received> packets;    // at flannel0
  std::vector<Received> datagrams;  // at the socket
};

// In: all frames with the programs, all of them without, and the loop for what comes then.
Tally come_in(Wires& wires, Packets& random, size_t count, bool source_check, KernelPath path) {
  Tally tally;
  tally.packets = count;
  const Bytes last =
      frame_of(wires, datagram(kNode2, kNode1, last_packet(kContainer2, kContainer1), 1));
  std::vector<Bytes> frames;
  std::vector<Arrival> taken;
  const auto at_socket = [&] { return receive(wires.udp); };
  for (size_t i = 0; i < count; ++i) {
    frames.push_back(random_frame(wires, random, static_cast<uint16_t>(i)));
    if (i % 256 == 0) need(path.keep_alive(), "keep_alive");
    inject(wires.wire, wires.wire_index, frames[i]);
    inject(wires.wire, wires.wire_index, last);
    Arrival arrival;
    arrival.packets = until(
        wires.flannel.get(), [&] { return receive(wires.flannel); }, is_magic);
    arrival.datagrams = all(at_socket);
    taken.push_back(std::move(arrival));
  }
  { const KernelPath closed = std::move(path); }

  Rig rig;
  Decapsulation loop(rig.context(Mode::kBasic, source_check));
  std::vector<Received> datagrams;
  const auto without_programs = [&](const Bytes& frame) {
    inject(wires.wire, wires.wire_index, frame);
    inject(wires.wire, wires.wire_index, last);
    datagrams = until(wires.udp.get(), at_socket, is_magic);
    rig.io.reset();
    for (const Received& one : datagrams) rig.io.datagrams.push_back({one.bytes, one.source});
    loop.carry();
  };
  for (size_t i = 0; i < count; ++i) {
    without_programs(frames[i]);
    const std::vector<Bytes>& daemon = rig.io.written;
    const Arrival& arrival = taken[i];
    const char* fault = nullptr;
    if (!arrival.packets.empty()) {
      ++tally.taken;
      if (datagrams.empty()) {
        Bytes unchecked = frames[i];
        put_word(unchecked, ETH_HLEN + 26, 0);
        without_programs(unchecked);
        if (!daemon.empty()) ++tally.unchecked;
      }
      if (daemon.empty()) {
        fault = datagrams.empty() ? "taken, and the kernel alone drops the datagram"
                                  : "taken, and the daemon drops it";
      } else if (arrival.packets.size() != 1 || arrival.packets[0].bytes != daemon[0]) {
        fault = "other bytes than the daemon's";
      } else if (!arrival.datagrams.empty()) {
        fault = "taken, and left to the daemon too";
      }
    } else if (!arrival.datagrams.empty()) {
      ++tally.left;
      if (datagrams.empty() || arrival.datagrams[0].bytes != datagrams[0].bytes)
        fault = "left with other bytes";
    } else if (!daemon.empty()) {
      fault = "lost";
    }
    if (fault == nullptr) continue;
    ++tally.different;
    show(tally, "in", fault, Bytes(frames[i].begin() + ETH_HLEN, frames[i].end()));
  }
  return tally;
}

void print(const char* way, const Tally& tally, const char* end) {
  std::printf(
      "\"%s\":{\"packets\":%zu,\"taken\":%zu,\"left\":%zu,\"different\":%zu,\"unchecked\":%zu}%s",
      way, tally.packets, tally.taken, tally.left, tally.different, tally.unchecked, end);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const size_t count = std::strtoull(argv[1], nullptr, 10);
  Packets random(std::strtoull(argv[2], nullptr, 10));
  const bool source_check = std::strcmp(argv[3], "true") == 0;

  Tun tun = need(Tun::open({.name = "flannel0"}), "TUN");
  need(tun.configure(
           {.address = kTunAddress, .mtu = kMtu, .queue_packets = 1000, .overlay = kOverlay}),
       "flannel0");
  Wires wires{.wire = packet_socket("wire", ETH_P_IP),
              .flannel = packet_socket("flannel0", ETH_P_IP),
              .udp = OwnedFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)),
              .tun_fd = tun.fd(),
              .wire_index = static_cast<int>(::if_nametoindex("wire")),
              .flannel_index = tun.ifindex(),
              .mac = {}};
  const sockaddr_in here = socket_address(kNode1, kPort);
  if (::bind(wires.udp.get(), reinterpret_cast<const sockaddr*>(&here), sizeof(here)) != 0)
    fail("bind");
  ifreq request{};
  std::snprintf(request.ifr_name, sizeof(request.ifr_name), "eth0");
  if (::ioctl(wires.udp.get(), SIOCGIFHWADDR, &request) != 0) fail("eth0");
  std::memcpy(wires.mac.data(), request.ifr_hwaddr.sa_data, wires.mac.size());

  KernelPath path = need(KernelPath::open({.local = kNode1,
                                           .port = kPort,
                                           .own = kOwn,
                                           .source_check = source_check,
                                           .underlay = static_cast<int>(::if_nametoindex("eth0")),
                                           .tun = tun.ifindex()}),
                         "the programs");
  for (const Route& route : example_routes())
    need(path.put_host(route.subnet, route.next_hop), "host");
  const Tally out = go_out(wires, random, count);
  const Tally in = come_in(wires, random, count, source_check, std::move(path));
  std::printf("{");
  print("out", out, ",");
  print("in", in, "}\n");
  return out.different + in.different == 0 ? 0 : 1;
}
