#include "binding/engine_wrap.h"

#include <cerrno>
#include <vector>

#include "binding/convert.h"
#include "binding/node_api.h"

namespace flannelette {

Napi::Function EngineWrap::define(Napi::Env env, OpenEngines* open) {
  return DefineClass(env, "Engine",
                     {
                         InstanceMethod("takeEventFd", &EngineWrap::take_event_fd),
                         InstanceMethod("start", &EngineWrap::start),
                         InstanceMethod("changeRoutes", &EngineWrap::change_routes),
                         InstanceMethod("restoreDevice", &EngineWrap::restore_device),
                         InstanceMethod("lookup", &EngineWrap::lookup),
                         InstanceMethod("counters", &EngineWrap::counters),
                         InstanceMethod("features", &EngineWrap::features),
                         InstanceMethod("queueSizes", &EngineWrap::queue_sizes),
                         InstanceMethod("close", &EngineWrap::close),
                     },
                     open);
}

EngineWrap::EngineWrap(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<EngineWrap>(info), open_(static_cast<OpenEngines*>(info.Data())) {
  // Without a wrap nobody would ever free this object: the environment ends.
  if (IsEmpty()) return;
  EngineOptions options;
  if (!read_options(info[0], options)) return;
  auto opened = Engine::open(options);
  if (!opened.ok()) {
    throw_system(info.Env(), opened.error());
    return;
  }
  engine_ = std::move(opened.value());
  open_->insert(this);
  Fields self(info.Env());
  self.add("tunName", engine_->tun_name());
  // Refused: whoever ends the environment ends this engine.
  (void)self.define(info.This());
}

EngineWrap::~EngineWrap() { end(); }

void EngineWrap::end() {
  // Not registered: never opened, or ended already. After the environment's hook has ended every
  // engine the set is gone, and a late finalizer must not touch it.
  if (engine_ == nullptr || open_ == nullptr) return;
  engine_->close();
  open_->erase(this);
  open_ = nullptr;
}

bool EngineWrap::opened(const Napi::CallbackInfo& info) const {
  if (engine_ != nullptr) return true;
  throw_system(info.Env(), {EBADF, "Engine", "never opened"});
  return false;
}

Napi::Value EngineWrap::take_event_fd(const Napi::CallbackInfo& info) {
  if (!opened(info)) return {};
  const int fd = engine_->take_event_fd();
  if (fd >= 0) return Napi::Number::New(info.Env(), fd);
  throw_system(info.Env(), {EBADF, "takeEventFd", "taken or closed"});
  return {};
}

void EngineWrap::start(const Napi::CallbackInfo& info) {
  if (!opened(info)) return;
  if (auto error = engine_->start()) throw_system(info.Env(), *error);
}

void EngineWrap::change_routes(const Napi::CallbackInfo& info) {
  std::vector<Route> changes;
  if (opened(info) && read_route_changes(info[0], changes)) engine_->change_routes(changes);
}

Napi::Value EngineWrap::restore_device(const Napi::CallbackInfo& info) {
  if (!opened(info)) return {};
  auto restored = engine_->restore_device();
  if (restored.ok()) return to_js_device_check(info.Env(), restored.value());
  throw_system(info.Env(), restored.error());
  return {};
}

Napi::Value EngineWrap::lookup(const Napi::CallbackInfo& info) {
  if (!opened(info)) return {};
  if (!info[0].IsNumber()) {
    throw_type(info.Env(), "address: expected a number");
    return {};
  }
  const uint32_t next_hop = engine_->lookup(info[0].As<Napi::Number>().Uint32Value());
  if (next_hop == 0) return {};
  return Napi::Number::New(info.Env(), next_hop);
}

Napi::Value EngineWrap::counters(const Napi::CallbackInfo& info) {
  if (!opened(info)) return {};
  std::vector<Napi::Value> out;
  const QueueDrops& drops = engine_->queue_drops();
  const auto encapsulations = engine_->encapsulations();
  const auto decapsulations = engine_->decapsulations();
  // The kernel counts for the device, not for each of its queues: all of it stands with the first.
  for (size_t i = 0; i < encapsulations.size(); ++i)
    out.push_back(to_js_counters(info.Env(), "encapsulate", *encapsulations[i],
                                 i == 0 ? drops.tun : std::optional<uint64_t>(0)));
  for (size_t i = 0; i < decapsulations.size(); ++i)
    out.push_back(to_js_counters(info.Env(), "decapsulate", *decapsulations[i],
                                 i < drops.udp.size() ? drops.udp[i] : std::nullopt));
  return to_js_array(info.Env(), out);
}

Napi::Value EngineWrap::queue_sizes(const Napi::CallbackInfo& info) {
  if (!opened(info)) return {};
  return to_js_queue_sizes(info.Env(), engine_->queue_sizes());
}

Napi::Value EngineWrap::features(const Napi::CallbackInfo& info) {
  if (!opened(info)) return {};
  return to_js_features(info.Env(), engine_->features());
}

void EngineWrap::close(const Napi::CallbackInfo&) { end(); }

}  // namespace flannelette
