// Fuzz target: any control messages beside the datagrams of the tunnel's port, of which UDP_GRO
// says how long the datagrams of a train are. Whatever they say, every byte that came is counted
// once, and every datagram is delivered or counted as dropped.
//
// Input: messages: kind and length of the control (1 byte), value (4 bytes), length (2 bytes),
// control bytes of kind 0, bytes.
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "../native/scripted_io.h"
#include "engine/decapsulation.h"

using namespace flannelette;
using namespace flannelette::test;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

// A control message as it lies in memory; `length` is what its header says.
Bytes control_message(int level, int type, size_t length, uint32_t value) {
  Bytes out(CMSG_SPACE(sizeof(value)));
  cmsghdr header{};
  header.cmsg_len = length;
  header.cmsg_level = level;
  header.cmsg_type = type;
  std::memcpy(out.data(), &header, sizeof(header));
  std::memcpy(out.data() + CMSG_LEN(0), &value, sizeof(value));
  return out;
}

struct Loop {
  Rig rig;
  Decapsulation decapsulation{rig.context(Mode::kOffload, false)};
};

}  // namespace

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Loop loop;
  ScriptedIo& io = loop.rig.io;
  io.reset();
  const ThreadCounters& counters = loop.decapsulation.counters();
  const uint64_t packets_before = counters.received_packets.get();
  const uint64_t bytes_before = counters.received_bytes.get();
  const uint64_t sent_before = counters.sent_packets.get();
  const uint64_t drops_before = all_drops(loop.decapsulation);
  size_t messages = 0;
  uint64_t offered = 0;
  for (size_t at = 0; at + 7 <= size; ++messages) {
    const uint8_t how = data[at];
    uint32_t value = 0;
    std::memcpy(&value, data + at + 1, sizeof(value));
    const size_t asked = data[at + 5] * 256U + data[at + 6];
    at += 7;
    Datagram datagram;
    if ((how & 3) == 0) {
      const size_t length = std::min<size_t>(how / 4U, size - at);
      datagram.control.assign(data + at, data + at + length);
      at += length;
    } else if ((how & 3) == 1) {
      datagram.control = control_message(IPPROTO_UDP, UDP_GRO, how / 4U, value);
    } else if ((how & 3) == 2) {
      // Small values, as the kernel's are.
      datagram.control =
          control_message(IPPROTO_UDP, UDP_GRO, CMSG_LEN(sizeof(int)), 20 + value % 300);
    }
    const size_t length = std::min<size_t>(asked, size - at);
    datagram.bytes.assign(data + at, data + at + length);
    at += length;
    offered += length;
    io.datagrams.push_back(std::move(datagram));
  }
  loop.decapsulation.carry();

  require(!io.overrun);
  require(counters.received_bytes.get() - bytes_before == offered);
  const uint64_t received = counters.received_packets.get() - packets_before;
  require(received >= messages);
  require(counters.sent_packets.get() - sent_before + all_drops(loop.decapsulation) -
              drops_before ==
          received);
  return 0;
}
