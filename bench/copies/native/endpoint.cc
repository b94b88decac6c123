#include "endpoint.h"

#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/bytes.h"
#include "core/checksum.h"
#include "core/ipv4.h"
#include "sys/address.h"
#include "sys/udp_socket.h"

namespace flannelette::bench {

namespace {

constexpr int kBufferBytes = 8 * 1024 * 1024;
constexpr uint8_t kProtocolUdp = 17;

void set_option(int fd, int level, int option, int value, const char* name) {
  if (::setsockopt(fd, level, option, &value, sizeof(value)) < 0) fail(name);
}

}  // namespace

void fail(const std::string& what) {
  const int number = errno;
  std::fprintf(stderr, "%s: %s\n", what.c_str(), std::strerror(number));
  std::exit(1);
}

const char* checksum_name(Checksum checksum) {
  switch (checksum) {
    case Checksum::kSoftware:
      return "software";
    case Checksum::kNone:
      return "none";
    default:
      return "offload";
  }
}

void enter_namespace(const char* name) {
  const std::string path = std::string("/run/netns/") + name;
  const OwnedFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid() || ::setns(fd.get(), CLONE_NEWNET) < 0) fail("cannot enter " + path);
}

OwnedFd open_socket(const SocketOptions& options) {
  auto opened = open_udp_socket(INADDR_ANY, options.port, kBufferBytes);
  if (!opened.ok()) {
    errno = opened.error().number;
    fail(opened.error().operation);
  }
  const int fd = opened.value().get();
  if (!options.checksum) set_option(fd, SOL_SOCKET, SO_NO_CHECK, 1, "SO_NO_CHECK");
  if (options.segment != 0)
    set_option(fd, IPPROTO_UDP, UDP_SEGMENT, options.segment, "UDP_SEGMENT");
  if (options.gro) {
    errno = enable_udp_gro(fd);
    if (errno != 0) fail("UDP_GRO");
  }
  return std::move(opened.value());
}

void connect_to(int fd, uint32_t address, uint16_t port) {
  const sockaddr_in to = socket_address(address, port);
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) < 0) fail("connect");
}

void set_tx_checksum(int socket, const char* device, bool on) {
  ethtool_value value{};
  value.cmd = ETHTOOL_STXCSUM;
  value.data = on ? 1 : 0;
  ifreq request{};
  std::strncpy(request.ifr_name, device, IFNAMSIZ - 1);
  request.ifr_data = reinterpret_cast<char*>(&value);
  if (::ioctl(socket, SIOCETHTOOL, &request) < 0) fail(std::string("ETHTOOL_STXCSUM of ") + device);
}

TunPacket make_tun_packet(uint32_t source, uint32_t destination, uint16_t port, size_t bytes,
                          Checksum checksum, uint16_t segment) {
  TunPacket out;
  out.packet.assign(bytes, 0x5a);
  uint8_t* packet = out.packet.data();
  std::memset(packet, 0, kHeaders);
  packet[0] = 0x45;
  store_be16(packet + 2, static_cast<uint16_t>(bytes));
  store_be16(packet + 6, 0x4000);  // DF
  packet[8] = 64;
  packet[9] = kProtocolUdp;
  for (int i = 0; i < 4; ++i) {
    packet[12 + i] = static_cast<uint8_t>(source >> (24 - 8 * i));
    packet[16 + i] = static_cast<uint8_t>(destination >> (24 - 8 * i));
  }
  store_be16(packet + 10, internet_checksum({packet, ip::kHeaderMin}));

  uint8_t* udp = packet + ip::kHeaderMin;
  const size_t length = bytes - ip::kHeaderMin;
  store_be16(udp, port);
  store_be16(udp + 2, port);
  store_be16(udp + 4, static_cast<uint16_t>(length));
  const uint16_t pseudo =
      fold_sum(pseudo_header_sum(source, destination, kProtocolUdp, static_cast<uint16_t>(length)));
  if (checksum == Checksum::kOffload) {
    store_be16(udp + 6, pseudo);
    out.header.flags = kNeedsChecksum;
    out.header.checksum_start = ip::kHeaderMin;
    out.header.checksum_offset = 6;
  } else if (checksum == Checksum::kSoftware) {
    store_be16(udp + 6, pseudo);
    const uint16_t sum = internet_checksum({udp, length});
    store_be16(udp + 6, sum == 0 ? 0xffff : sum);
  }
  if (segment != 0) {
    out.header.gso_type = kGsoUdpL4;
    out.header.gso_size = segment;
    out.header.header_length = kHeaders;
  }
  return out;
}

}  // namespace flannelette::bench
