// flood ADDRESS PORT SOURCE DESTINATION RATE SECONDS: RATE datagrams a second to ADDRESS:PORT, each
// with a packet of the overlay, 64 bytes from SOURCE to DESTINATION. Prints how many were sent.
#include <arpa/inet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kPacketBytes = 64;
constexpr uint16_t kDiscard = 9;
// What is sent between two looks at the clock.
constexpr unsigned kBatch = 20;
// A sender that was kept from running does not send what it missed in one burst.
constexpr std::chrono::milliseconds kBehindMax{10};

int fail(const char* what) {
  std::perror(what);
  return 1;
}

// RFC 1071, of a header without options.
uint16_t header_checksum(const iphdr& header) {
  std::array<uint16_t, sizeof(header) / 2> words{};
  std::memcpy(words.data(), &header, sizeof(header));
  uint32_t sum = 0;
  for (const uint16_t word : words) sum += word;
  while ((sum >> 16) != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

std::array<char, kPacketBytes> packet_between(in_addr source, in_addr destination) {
  iphdr ip{};
  ip.version = 4;
  ip.ihl = 5;
  ip.tot_len = htons(kPacketBytes);
  ip.ttl = 64;
  ip.protocol = IPPROTO_UDP;
  ip.saddr = source.s_addr;
  ip.daddr = destination.s_addr;
  ip.check = header_checksum(ip);
  udphdr udp{};  // without a checksum
  udp.source = udp.dest = htons(kDiscard);
  udp.len = htons(kPacketBytes - sizeof(ip));
  std::array<char, kPacketBytes> packet{};
  std::memcpy(packet.data(), &ip, sizeof(ip));
  std::memcpy(packet.data() + sizeof(ip), &udp, sizeof(udp));
  return packet;
}

}  // namespace

int main(int argc, char** argv) {
  sockaddr_in to{};
  in_addr source{};
  in_addr destination{};
  const long rate = argc == 7 ? std::atol(argv[5]) : 0;
  if (rate <= 0 || inet_aton(argv[1], &to.sin_addr) == 0 || inet_aton(argv[3], &source) == 0 ||
      inet_aton(argv[4], &destination) == 0) {
    std::fprintf(stderr, "usage: flood ADDRESS PORT SOURCE DESTINATION RATE SECONDS\n");
    return 2;
  }
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::atoi(argv[2])));
  const int socket_fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (socket_fd < 0) return fail("socket");

  auto packet = packet_between(source, destination);
  iovec data{packet.data(), packet.size()};
  std::array<mmsghdr, kBatch> batch{};
  for (mmsghdr& message : batch) {
    message.msg_hdr.msg_name = &to;
    message.msg_hdr.msg_namelen = sizeof(to);
    message.msg_hdr.msg_iov = &data;
    message.msg_hdr.msg_iovlen = 1;
  }
  const std::chrono::nanoseconds pause{1'000'000'000L * kBatch / rate};
  const auto end = Clock::now() + std::chrono::seconds{std::atoi(argv[6])};
  unsigned long long sent = 0;
  for (auto due = Clock::now(); due < end; due += pause) {
    std::this_thread::sleep_until(due);
    if (Clock::now() - due > kBehindMax) due = Clock::now();
    const int taken = sendmmsg(socket_fd, batch.data(), kBatch, 0);
    // ICMP errors surface here; what finds no room is lost, as on a wire.
    if (taken < 0 && errno != ENOBUFS && errno != ECONNREFUSED) return fail("sendmmsg");
    if (taken > 0) sent += static_cast<unsigned>(taken);
  }
  std::printf("%llu\n", sent);
  return 0;
}
