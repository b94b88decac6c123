#include "engine/events.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include "sys/retry.h"

namespace flannelette {

Result<EventPipe> EventPipe::open() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0) return Error{errno, "pipe2", ""};
  return EventPipe(OwnedFd(ends[0]), OwnedFd(ends[1]));
}

bool EventPipe::write(const EventRecord& record) const {
  return retry_interrupted([&] { return ::write(write_end_.get(), &record, sizeof(record)); }) ==
         sizeof(record);
}

bool EventPipe::write_if_room(const EventRecord& record) const {
  int unread = 0;
  const int capacity = ::fcntl(write_end_.get(), F_GETPIPE_SZ);
  if (::ioctl(write_end_.get(), FIONREAD, &unread) == 0 && unread >= capacity / 2) return false;
  return write(record);
}

void EventSource::report(uint32_t address, uint64_t now_ns, ThreadCounters& counters) {
  if (!limit_.take(now_ns)) {
    ++held_back_;
    return;
  }
  if (pipe_.write_if_room({type_, detail_, address, held_back_})) {
    held_back_ = 0;
  } else {
    counters.events_lost.add(1);
  }
}

}  // namespace flannelette
