// scatter NETWORK/PREFIX BYTES SECONDS: UDP datagrams of BYTES of payload to port 9 (discard) of
// addresses at random within the network, as fast as they go.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr size_t kBatch = 64;
constexpr uint16_t kDiscard = 9;

// Marsaglia's xorshift32.
uint32_t next(uint32_t& state) {
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state;
}

int fail(const char* what) {
  std::perror(what);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string network = argc == 4 ? argv[1] : "";
  const size_t slash = network.find('/');
  in_addr base{};
  if (slash == std::string::npos || inet_aton(network.substr(0, slash).c_str(), &base) == 0) {
    std::fprintf(stderr, "usage: scatter NETWORK/PREFIX BYTES SECONDS\n");
    return 2;
  }
  const int prefix = std::atoi(network.c_str() + slash + 1);
  const uint32_t hosts =
      prefix <= 0 ? ~0U : static_cast<uint32_t>((uint64_t{1} << (32 - prefix)) - 1);
  const std::vector<char> payload(static_cast<size_t>(std::atoi(argv[2])));
  const std::chrono::seconds length{std::atoi(argv[3])};

  const int socket_fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (socket_fd < 0) return fail("socket");

  iovec data{const_cast<char*>(payload.data()), payload.size()};
  std::array<sockaddr_in, kBatch> to{};
  std::array<mmsghdr, kBatch> batch{};
  for (size_t i = 0; i < kBatch; ++i) {
    to[i].sin_family = AF_INET;
    to[i].sin_port = htons(kDiscard);
    batch[i].msg_hdr.msg_name = &to[i];
    batch[i].msg_hdr.msg_namelen = sizeof(to[i]);
    batch[i].msg_hdr.msg_iov = &data;
    batch[i].msg_hdr.msg_iovlen = 1;
  }
  uint32_t random = 1;
  const auto end = std::chrono::steady_clock::now() + length;
  while (std::chrono::steady_clock::now() < end) {
    for (sockaddr_in& address : to) {
      address.sin_addr.s_addr = htonl(ntohl(base.s_addr) | (next(random) & hosts));
    }
    // Datagrams that find no room are lost, as on a wire.
    if (sendmmsg(socket_fd, batch.data(), kBatch, 0) < 0 && errno != ENOBUFS)
      return fail("sendmmsg");
  }
  return 0;
}
