// Event records over a real pipe: layout, rate, a full pipe, a closed one.
#include "engine/events.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <vector>

namespace flannelette::test {

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

struct Pipe {
  EventPipe pipe = std::move(EventPipe::open().value());
  OwnedFd reader{pipe.take_read_end()};

  std::vector<EventRecord> records() {
    std::vector<EventRecord> out;
    EventRecord record{};
    while (::read(reader.get(), &record, sizeof(record)) == sizeof(record)) out.push_back(record);
    return out;
  }
};

// Writing into a pipe without a reader raises SIGPIPE; the data-plane threads block it.
class WithoutSigpipe {
 public:
  WithoutSigpipe() : before_(std::signal(SIGPIPE, SIG_IGN)) {}
  ~WithoutSigpipe() { std::signal(SIGPIPE, before_); }

 private:
  void (*before_)(int);
};

}  // namespace

TEST_CASE("a record is 16 bytes in the machine's order: type, detail, address, repeated") {
  Pipe pipe;
  REQUIRE(pipe.pipe.write({EventType::kFault, 0x01020304, 0x0a0b0c0d, 0x11223344}));
  std::array<uint32_t, 16> words{};
  REQUIRE(::read(pipe.reader.get(), words.data(), sizeof(words)) == 16);
  CHECK(words[0] == 3);
  CHECK(words[1] == 0x01020304);
  CHECK(words[2] == 0x0a0b0c0d);
  CHECK(words[3] == 0x11223344);
  CHECK(static_cast<uint32_t>(EventType::kMiss) == 1);
  CHECK(static_cast<uint32_t>(EventType::kDatagramRefused) == 2);
}

TEST_CASE("both ends are non-blocking and closed at exec; the read end is handed out once") {
  EventPipe pipe = std::move(EventPipe::open().value());
  const OwnedFd reader(pipe.take_read_end());
  REQUIRE(reader.valid());
  CHECK((::fcntl(reader.get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(reader.get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(pipe.take_read_end() == -1);
}

TEST_CASE("at most 10 a second; what was held back is in the next record") {
  Pipe pipe;
  ThreadCounters counters;
  EventSource source(pipe.pipe, EventType::kMiss);
  for (uint32_t i = 0; i < 1000; ++i) source.report(i, 5 * kSecond, counters);
  auto records = pipe.records();
  REQUIRE(records.size() == 10);
  for (uint32_t i = 0; i < 10; ++i) {
    CHECK(records[i].type == EventType::kMiss);
    CHECK(records[i].address == i);
    CHECK(records[i].repeated == 0);
  }
  source.report(7777, 5 * kSecond + kSecond / 10, counters);
  source.report(8888, 5 * kSecond + kSecond / 5, counters);
  records = pipe.records();
  REQUIRE(records.size() == 2);
  CHECK(records[0].address == 7777);
  CHECK(records[0].repeated == 990);
  CHECK(records[1].repeated == 0);
  CHECK(counters.events_lost.get() == 0);
}

TEST_CASE("a full pipe loses and counts the record, never waits, and works again when read") {
  Pipe pipe;
  ::fcntl(pipe.reader.get(), F_SETPIPE_SZ, 4096);
  ThreadCounters counters;
  EventSource source(pipe.pipe, EventType::kDatagramRefused);
  size_t filled = 0;
  while (pipe.pipe.write({EventType::kMiss, 0, 0, 0})) REQUIRE(++filled < 100000);
  REQUIRE(filled >= 4096 / 16);
  source.report(1, kSecond, counters);
  source.report(2, kSecond, counters);
  CHECK(counters.events_lost.get() == 2);
  CHECK(pipe.records().size() == filled);
  source.report(3, kSecond, counters);
  const auto records = pipe.records();
  REQUIRE(records.size() == 1);
  CHECK(records[0].type == EventType::kDatagramRefused);
  CHECK(records[0].address == 3);
  CHECK(counters.events_lost.get() == 2);
}

TEST_CASE("what was held back is kept while the pipe is full") {
  Pipe pipe;
  ::fcntl(pipe.reader.get(), F_SETPIPE_SZ, 4096);
  ThreadCounters counters;
  EventSource source(pipe.pipe, EventType::kMiss);
  for (uint32_t i = 0; i < 15; ++i) source.report(i, kSecond, counters);
  while (pipe.pipe.write({EventType::kMiss, 0, 0, 0})) {
  }
  source.report(100, 2 * kSecond, counters);
  CHECK(counters.events_lost.get() == 1);
  pipe.records();
  source.report(101, 3 * kSecond, counters);
  const auto records = pipe.records();
  REQUIRE(records.size() == 1);
  CHECK(records[0].repeated == 5);
}

TEST_CASE("events that may be lost leave room for one that may not") {
  Pipe pipe;
  ThreadCounters counters;
  EventSource source(pipe.pipe, EventType::kMiss);
  // A control plane that reads nothing for an hour.
  uint64_t now = 0;
  while (counters.events_lost.get() == 0) source.report(1, now += kSecond / 10, counters);
  CHECK(pipe.pipe.write({EventType::kFault, 1, 2, 3}));
  const auto records = pipe.records();
  CHECK(records.size() > 1000);
  CHECK(records.back().type == EventType::kFault);
}

TEST_CASE("a pipe that is closed before its read end was taken leaves no descriptor") {
  EventPipe pipe = std::move(EventPipe::open().value());
  const int next = ::dup(0);
  ::close(next);
  pipe.close();
  CHECK(pipe.take_read_end() == -1);
  // The lowest free number is below again.
  const OwnedFd lowest(::dup(0));
  CHECK(lowest.get() < next);
}

TEST_CASE("a pipe whose reader is gone loses and counts") {
  const WithoutSigpipe quiet;
  Pipe pipe;
  ThreadCounters counters;
  EventSource source(pipe.pipe, EventType::kMiss);
  pipe.reader.reset();
  source.report(1, kSecond, counters);
  CHECK(counters.events_lost.get() == 1);
}

TEST_CASE("closing the pipe ends the reader's stream") {
  OwnedFd reader;
  {
    Pipe pipe;
    REQUIRE(pipe.pipe.write({EventType::kMiss, 1, 2, 3}));
    reader = std::move(pipe.reader);
  }
  EventRecord record{};
  CHECK(::read(reader.get(), &record, sizeof(record)) == sizeof(record));
  CHECK(::read(reader.get(), &record, sizeof(record)) == 0);
}

}  // namespace flannelette::test
