#include "crossings.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "core/ipv4.h"
#include "sys/address.h"

namespace flannelette::bench {

namespace {

constexpr uint32_t ip(uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  return a << 24 | b << 16 | c << 8 | d;
}

// The documents' addresses; 100.97.0.0/16 is a second overlay, behind the TUN with a virtio header.
constexpr uint32_t kContainer1 = ip(100, 96, 1, 2);
constexpr uint32_t kTunAddress[] = {ip(100, 96, 1, 0), ip(100, 97, 1, 0)};
constexpr uint32_t kFarContainer[] = {ip(100, 96, 2, 3), ip(100, 97, 2, 3)};
constexpr uint32_t kNode2 = ip(10, 168, 0, 3);
constexpr uint16_t kPort = 8285;
constexpr uint16_t kGroPort = 8286;

constexpr size_t kSizes[] = {64, 256, 512, 1024, kOverlayMtu};
constexpr size_t kLargeSizes[] = {4096, 8192, 16384, 32768, 65000};
constexpr Checksum kChecksums[] = {Checksum::kSoftware, Checksum::kNone, Checksum::kOffload};
constexpr size_t kBatchMax = 64;
constexpr uint32_t kTunQueuePackets = 1000;  // the daemon's default
constexpr uint32_t kUnderlayMtu = 1500;

// In front of each packet of the TUN that is used with this way.
size_t header_bytes(Checksum checksum) {
  return checksum == Checksum::kOffload ? sizeof(VirtioNetHeader) : 0;
}

template <typename T>
ssize_t result_of(T result) {
  return result < 0 ? -errno : static_cast<ssize_t>(result);
}

// How many packets certainly fit in a socket's receive buffer: the kernel counts the memory they
// take, at most four times a small packet's bytes and twice a large one's.
size_t batch_for(int socket, size_t bytes) {
  int granted = 0;
  socklen_t length = sizeof(granted);
  if (::getsockopt(socket, SOL_SOCKET, SO_RCVBUF, &granted, &length) < 0) fail("SO_RCVBUF");
  const size_t each = 2 * bytes + 1024;
  return std::clamp<size_t>(static_cast<size_t>(granted) / each, 1, kBatchMax);
}

Pair make_pair(const char* sender, const char* receiver, Checksum checksum, bool segmented,
               size_t bytes) {
  Pair pair;
  pair.sender = sender;
  pair.receiver = receiver;
  pair.checksum = checksum;
  pair.segmented = segmented;
  pair.bytes = bytes;
  pair.prepare = [] {};
  return pair;
}

ssize_t receive_from(int fd, std::vector<uint8_t>& buffer) {
  sockaddr_in from{};
  iovec piece = {buffer.data(), buffer.size()};
  std::array<uint8_t, 64> control;
  msghdr message{};
  message.msg_name = &from;
  message.msg_namelen = sizeof(from);
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  return result_of(::recvmsg(fd, &message, MSG_DONTWAIT));
}

}  // namespace

// Sockets and devices that the pairs share, by way with checksums where it matters.
struct Crossings::Ends {
  Result<Tun> tuns[2] = {Error{}, Error{}};  // bare; with a virtio header
  int tun_offload_error = 0;                 // of USO on the second
  std::vector<OwnedFd> kept;
  int container_in[2] = {-1, -1};  // plain; with UDP_GRO
  int far_in[2] = {-1, -1};
  std::vector<uint8_t> buffer = std::vector<uint8_t>(ip::kPacketMax);
  std::vector<uint8_t> payload = std::vector<uint8_t>(ip::kPacketMax, 0x5a);

  int keep(OwnedFd fd) {
    kept.push_back(std::move(fd));
    return kept.back().get();
  }
  Tun& tun(Checksum checksum) { return tuns[checksum == Checksum::kOffload ? 1 : 0].value(); }
};

Crossings::Crossings() : ends_(std::make_unique<Ends>()) {
  Ends& ends = *ends_;
  enter_namespace("container-1");
  ends.container_in[0] = ends.keep(open_socket({.port = kPort}));
  ends.container_in[1] = ends.keep(open_socket({.port = kGroPort, .gro = true}));
  enter_namespace("host-2");
  ends.far_in[0] = ends.keep(open_socket({.port = kPort}));
  ends.far_in[1] = ends.keep(open_socket({.port = kGroPort, .gro = true}));
  enter_namespace("host-1");
  for (const size_t i : {0, 1}) {
    ends.tuns[i] = Tun::open({.vnet_header = i == 1});
    if (!ends.tuns[i].ok()) {
      errno = ends.tuns[i].error().number;
      fail(ends.tuns[i].error().operation);
    }
    Tun& tun = ends.tuns[i].value();
    const Subnet overlay{kTunAddress[i] & prefix_mask(16), 16};
    const DeviceSettings settings{kTunAddress[i], kUnderlayMtu, kTunQueuePackets, overlay};
    if (auto error = tun.configure(settings)) {
      errno = error->number;
      fail(error->operation);
    }
  }
  Tun& large = ends.tuns[1].value();
  ends.tun_offload_error = large.set_offload(true, true);
  if (ends.tun_offload_error != 0) {
    missing_.push_back({"large packets through the TUN (USO, Linux 6.2)", ends.tun_offload_error});
    errno = large.set_offload(false, false);
    if (errno != 0) fail("TUNSETOFFLOAD");
  }
  for (const Checksum checksum : kChecksums)
    for (const size_t bytes : kSizes) add(checksum, bytes);
  for (const size_t bytes : kLargeSizes) add_segmented(bytes);
}

Crossings::~Crossings() = default;

void Crossings::add(Checksum checksum, size_t bytes) {
  add_container_to_tun(checksum, bytes, false);
  add_udp(checksum, bytes, false);
  add_tun_to_container(checksum, bytes, false);
}

void Crossings::add_segmented(size_t bytes) {
  add_udp(Checksum::kOffload, bytes, true);
  if (ends_->tun_offload_error != 0) return;
  add_container_to_tun(Checksum::kOffload, bytes, true);
  add_tun_to_container(Checksum::kOffload, bytes, true);
}

std::function<ssize_t()> Crossings::tun_reader(Checksum checksum) {
  Ends& ends = *ends_;
  const int in = ends.tun(checksum).fd();
  if (header_bytes(checksum) == 0)
    return [&ends, in] { return result_of(::read(in, ends.buffer.data(), ends.buffer.size())); };
  return [&ends, in] {
    VirtioNetHeader before;
    const iovec pieces[2] = {{&before, sizeof(before)}, {ends.buffer.data(), ends.buffer.size()}};
    return result_of(::readv(in, pieces, 2));
  };
}

void Crossings::add_container_to_tun(Checksum checksum, size_t bytes, bool segmented) {
  Ends& ends = *ends_;
  enter_namespace("container-1");
  const int out = ends.keep(
      open_socket({.checksum = checksum != Checksum::kNone,
                   .segment = static_cast<uint16_t>(segmented ? kOverlayMtu - kHeaders : 0)}));
  connect_to(out, kFarContainer[checksum == Checksum::kOffload ? 1 : 0], kPort);
  enter_namespace("host-1");
  const int in = ends.tun(checksum).fd();
  Pair pair = make_pair("container-send", "tun-read", checksum, segmented, bytes);
  pair.batch = batch_for(ends.container_in[0], bytes);
  pair.receiver_fd = in;
  pair.send = [&ends, out, bytes] {
    return result_of(::send(out, ends.payload.data(), bytes - kHeaders, MSG_DONTWAIT));
  };
  pair.sent_bytes = static_cast<ssize_t>(bytes - kHeaders);
  pair.receive = tun_reader(checksum);
  pair.received_bytes = static_cast<ssize_t>(header_bytes(checksum) + bytes);
  pairs_.push_back(std::move(pair));
}

void Crossings::add_udp(Checksum checksum, size_t bytes, bool segmented) {
  Ends& ends = *ends_;
  const int out =
      ends.keep(open_socket({.checksum = checksum != Checksum::kNone,
                             .segment = static_cast<uint16_t>(segmented ? kOverlayMtu : 0)}));
  const int in = ends.far_in[segmented ? 1 : 0];
  const uint16_t port = segmented ? kGroPort : kPort;
  Pair pair = make_pair("udp-send", "udp-receive", checksum, segmented, bytes);
  pair.batch = batch_for(in, bytes);
  pair.receiver_fd = in;
  const auto send_to = [&ends, out, bytes](uint32_t address, uint16_t to_port) {
    return [&ends, out, bytes, to = socket_address(address, to_port)] {
      return result_of(::sendto(out, ends.payload.data(), bytes, MSG_DONTWAIT,
                                reinterpret_cast<const sockaddr*>(&to), sizeof(to)));
    };
  };
  pair.send = send_to(kNode2, port);
  pair.sent_bytes = static_cast<ssize_t>(bytes);
  pair.receive = [&ends, in] { return receive_from(in, ends.buffer); };
  pair.received_bytes = static_cast<ssize_t>(bytes);
  // Without the device's help the kernel sums at the send and verifies at the receive.
  const bool offload = checksum == Checksum::kOffload;
  pair.prepare = [out, offload] { set_tx_checksum(out, "eth0", offload); };
  pairs_.push_back(pair);

  // The same into a TUN, where it ends in the device's queue: no other host's stack is in it.
  if (segmented && ends.tun_offload_error != 0) return;
  pair.sender = "udp-send-device";
  pair.receiver = nullptr;
  pair.receiver_fd = ends.tun(checksum).fd();
  pair.send = send_to(kFarContainer[offload ? 1 : 0], port);
  pair.receive = tun_reader(checksum);
  pair.received_bytes = static_cast<ssize_t>(kHeaders + bytes + header_bytes(checksum));
  pair.prepare = [] {};
  pairs_.push_back(std::move(pair));
}

void Crossings::add_tun_to_container(Checksum checksum, size_t bytes, bool segmented) {
  Ends& ends = *ends_;
  const bool virtio = checksum == Checksum::kOffload;
  const int out = ends.tun(checksum).fd();
  const int in = ends.container_in[segmented ? 1 : 0];
  const auto packet = std::make_shared<TunPacket>(make_tun_packet(
      kFarContainer[virtio ? 1 : 0], kContainer1, segmented ? kGroPort : kPort, bytes, checksum,
      static_cast<uint16_t>(segmented ? kOverlayMtu - kHeaders : 0)));
  Pair pair = make_pair("tun-write", "container-receive", checksum, segmented, bytes);
  pair.batch = batch_for(in, bytes);
  pair.receiver_fd = in;
  if (virtio) {
    pair.send = [packet, out] {
      const iovec pieces[2] = {{&packet->header, sizeof(packet->header)},
                               {packet->packet.data(), packet->packet.size()}};
      return result_of(::writev(out, pieces, 2));
    };
  } else {
    pair.send = [packet, out] {
      return result_of(::write(out, packet->packet.data(), packet->packet.size()));
    };
  }
  pair.sent_bytes = static_cast<ssize_t>(bytes + header_bytes(checksum));
  pair.receive = [&ends, in] { return receive_from(in, ends.buffer); };
  pair.received_bytes = static_cast<ssize_t>(bytes - kHeaders);
  pairs_.push_back(std::move(pair));
}

}  // namespace flannelette::bench
