// The forwarding table: what a lookup costs by number of routes, their lengths and the order of
// destinations; what the encapsulation's checks of a packet cost with it; what a change costs until
// it is published; and what a reader feels of a stream of changes.
//
// "latency" chains lookups, each address made from the answer before it, so that nothing overlaps;
// "throughput" leaves the processor free to overlap them, as the packets of a batch do.
//
//   make -C bench/micro && bench/micro/build/forwarding_table ROUNDS
#include "core/forwarding_table.h"

#include <atomic>
#include <chrono>
#include <memory>

#include "../frame/harness.h"
#include "core/bytes.h"
#include "core/checksum.h"
#include "core/published.h"

using namespace flannelette;
using namespace flannelette::bench;

namespace {

using Table = Published<ForwardingTable, 1>;

constexpr uint32_t kNetwork = 10U << 24;  // 10.0.0.0/8
constexpr size_t kMany = 65536;
constexpr size_t kLookups = 1 << 16;
constexpr size_t kPackets = 4096;
constexpr size_t kPacketBytes = 64;
constexpr size_t kBatch = 64;
constexpr auto kStream = std::chrono::milliseconds(250);

// Read as 0, which no compiler knows: ties an address to the answer before it.
volatile uint32_t zero = 0;
volatile uint32_t sink;

std::vector<Route> make_routes(size_t count, bool mixed, std::mt19937& random) {
  std::vector<Route> routes;
  for (size_t i = 0; i < count; ++i) {
    // Every second one of mixed lengths is a /24, the others are of 16 to 28.
    const uint32_t prefix = mixed && i % 2 == 0 ? 16 + random() % 13 : 24;
    const uint32_t at = static_cast<uint32_t>(i * (kMany / count)) << 8;
    routes.push_back({{(kNetwork | at) & prefix_mask(prefix), prefix},
                      (172U << 24 | 16U << 16) + static_cast<uint32_t>(i)});
  }
  return routes;
}

std::vector<uint32_t> destinations(const std::vector<Route>& routes, const std::string& order,
                                   std::mt19937& random) {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < kLookups; ++i) {
    const size_t pick = order == "one" ? 0 : order == "random" ? random() : i;
    const Subnet& subnet = routes[pick % routes.size()].subnet;
    out.push_back(subnet.network | (static_cast<uint32_t>(random()) & ~prefix_mask(subnet.prefix)));
  }
  return out;
}

double latency(const ForwardingTable& table, const std::vector<uint32_t>& addresses) {
  const uint32_t none = zero;
  uint32_t hop = 0;
  const double started = now_ns();
  for (const uint32_t address : addresses) hop = table.lookup(address ^ (hop & none));
  const double took = now_ns() - started;
  sink = hop;
  return took / static_cast<double>(addresses.size());
}

double throughput(const ForwardingTable& table, const std::vector<uint32_t>& addresses) {
  uint32_t sum = 0;
  const double started = now_ns();
  for (const uint32_t address : addresses) sum += table.lookup(address);
  const double took = now_ns() - started;
  sink = sum;
  return took / static_cast<double>(addresses.size());
}

std::vector<uint8_t> make_packets(const std::vector<uint32_t>& addresses) {
  std::vector<uint8_t> out(kPackets * kPacketBytes);
  for (size_t i = 0; i < kPackets; ++i) {
    uint8_t* packet = &out[i * kPacketBytes];
    packet[0] = 0x45;
    store_be16(packet + 2, kPacketBytes);
    packet[8] = 255;
    packet[9] = 17;
    store_be16(packet + 12, 10 << 8);
    store_be16(packet + 16, static_cast<uint16_t>(addresses[i] >> 16));
    store_be16(packet + 18, static_cast<uint16_t>(addresses[i]));
    store_be16(packet + 10, internet_checksum({packet, ip::kHeaderMin}));
  }
  return out;
}

// What the encapsulation does with each packet between its two system calls, over packets and a
// part of the table that lie in the cache.
double checks(const ForwardingTable& table, std::vector<uint8_t> packets) {
  constexpr int kPasses = 16;
  uint32_t sum = 0;
  double started = 0;
  for (int pass = 0; pass <= kPasses; ++pass) {
    if (pass == 1) started = now_ns();
    for (size_t at = 0; at < packets.size(); at += kPacketBytes) {
      Ipv4Packet packet;
      if (Ipv4Packet::parse({&packets[at], kPacketBytes}, packet) != PacketFault::kNone)
        std::abort();
      const uint32_t hop = table.lookup(packet.destination());
      if (hop == 0 || packet.ttl() <= 1) std::abort();
      packet.decrement_ttl();
      sum += hop;
    }
  }
  const double took = now_ns() - started;
  sink = sum;
  return took / kPasses / kPackets;
}

// The routes whose changes are published, one after the other.
class Publisher {
 public:
  explicit Publisher(std::vector<Route> routes)
      : routes_(std::move(routes)),
        table_(routes_),
        published_(std::make_unique<const ForwardingTable>(table_)) {}

  // The next route leads elsewhere.
  void change() {
    Route& route = routes_[next_++ * 7919 % routes_.size()];
    route.next_hop ^= 1U << 20;
    table_.set(route);
  }
  void publish() { published_.publish(std::make_unique<const ForwardingTable>(table_)); }
  Table& published() { return published_; }

 private:
  std::vector<Route> routes_;
  ForwardingTable table_;
  Table published_;
  size_t next_ = 0;
};

double build(const std::vector<Route>& routes) {
  const double started = now_ns();
  Table published(std::make_unique<const ForwardingTable>());
  published.publish(std::make_unique<const ForwardingTable>(routes));
  return (now_ns() - started) / 1e6;
}

double change_and_publish(Publisher& publisher, size_t changes) {
  constexpr size_t kTimes = 100;
  const double started = now_ns();
  for (size_t i = 0; i < kTimes; ++i) {
    for (size_t n = 0; n < changes; ++n) publisher.change();
    publisher.publish();
  }
  return (now_ns() - started) / kTimes / 1e3;
}

double thread_cpu_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

// A reader on one CPU looks batches up, as a data-plane thread does, while another CPU publishes
// changes one by one at a rate. Prints samples of its own.
void stream(Publisher& publisher, const std::vector<uint32_t>& addresses, size_t rate, bool seen) {
  std::atomic<bool> stop{false};
  std::vector<float> batches;
  batches.reserve(4'000'000);
  std::thread reader([&] {
    pin(1);
    uint32_t sum = 0;
    for (size_t at = 0; !stop && batches.size() < batches.capacity();
         at = (at + kBatch) % kLookups) {
      const double started = now_ns();
      const ForwardingTable& table = publisher.published().enter(0);
      for (size_t i = 0; i < kBatch; ++i) sum += table.lookup(addresses[at + i]);
      batches.push_back(static_cast<float>(now_ns() - started));
    }
    publisher.published().leave(0);
    sink = sum;
  });
  const auto begin = std::chrono::steady_clock::now();
  const double cpu = thread_cpu_ns();
  size_t changes = 0;
  for (auto now = begin; now - begin < kStream; now = std::chrono::steady_clock::now()) {
    // Whatever is due by now, each change published on its own.
    const std::chrono::duration<double> elapsed = now - begin;
    const auto due = static_cast<size_t>(elapsed.count() * static_cast<double>(rate));
    for (; changes < due; ++changes) {
      publisher.change();
      publisher.publish();
    }
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  const double used = thread_cpu_ns() - cpu;
  stop = true;
  reader.join();
  if (!seen) return;
  const std::chrono::duration<double, std::nano> took = kStream;
  std::sort(batches.begin(), batches.end());
  const std::string cell = std::to_string(rate) + " changes/s";
  const std::string group = "reader's batch of 64 lookups during changes";
  sample(group, cell + ", median", "ns", batches[batches.size() / 2]);
  sample(group, cell + ", 99th percentile", "ns", batches[batches.size() * 99 / 100]);
  sample(group, cell + ", 99.99th percentile", "ns", batches[batches.size() * 9999 / 10000]);
  sample(group, cell + ", longest", "ns", batches.back());
  sample("publisher's CPU during changes", cell, "%", used / took.count() * 100);
  if (rate > 0)
    sample("changes published a second", cell, "/s",
           static_cast<double>(changes) / std::chrono::duration<double>(kStream).count());
}

}  // namespace

int main(int argc, char** argv) {
  const size_t rounds = rounds_of(argc, argv);
  pin(0);
  std::mt19937 random(1);
  std::vector<std::unique_ptr<ForwardingTable>> tables;
  std::vector<Cell> cells;
  for (const size_t count : {size_t{2}, size_t{256}, kMany}) {
    for (const bool mixed : {false, true}) {
      const auto routes = make_routes(count, mixed, random);
      tables.push_back(std::make_unique<ForwardingTable>(routes));
      const ForwardingTable& table = *tables.back();
      for (const char* order : {"one", "sequential", "random"}) {
        const std::string name =
            std::to_string(count) + " routes, " + (mixed ? "mixed" : "/24") + ", " + order;
        const auto addresses = destinations(routes, order, random);
        cells.push_back({"lookup, latency", name, "ns",
                         [&table, addresses] { return latency(table, addresses); }});
        cells.push_back({"lookup, throughput", name, "ns",
                         [&table, addresses] { return throughput(table, addresses); }});
        if (mixed || order != std::string("random")) continue;
        const auto packets = make_packets(addresses);
        for (const char* again : {"", " again"})
          cells.push_back({"check, lookup and TTL of a packet", name + again, "ns",
                           [&table, packets] { return checks(table, packets); }});
      }
    }
  }
  const auto many = make_routes(kMany, false, random);
  Publisher publisher(many);
  cells.push_back({"build and publish", "65536 routes", "ms", [&] { return build(many); }});
  for (const size_t changes : {size_t{1}, size_t{100}})
    cells.push_back({"publish among 65536 routes",
                     std::to_string(changes) + (changes == 1 ? " change" : " changes"), "us",
                     [&publisher, changes] { return change_and_publish(publisher, changes); }});
  run_rounds(cells, rounds, random);

  if (std::thread::hardware_concurrency() < 2) return 0;
  const auto addresses = destinations(many, "random", random);
  std::vector<size_t> rates = {0, 1'000, 10'000};
  for (size_t round = 0; round <= rounds; ++round) {
    std::shuffle(rates.begin(), rates.end(), random);
    for (const size_t rate : rates) stream(publisher, addresses, rate, round > 0);
  }
}
