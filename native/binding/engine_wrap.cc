#include "binding/engine_wrap.h"

#include <cerrno>
#include <vector>

#include "binding/convert.h"

namespace flannelette {

Napi::Function EngineWrap::define(Napi::Env env, OpenEngines* open) {
  return DefineClass(env, "Engine",
                     {
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
  EngineOptions options;
  if (!read_options(info[0], options)) return;
  auto opened = Engine::open(options);
  if (!opened.ok()) {
    to_js_error(info.Env(), opened.error()).ThrowAsJavaScriptException();
    return;
  }
  engine_ = std::move(opened.value());
  open_->insert(this);
  Napi::Object self = info.This().As<Napi::Object>();
  self.Set("tunName", Napi::String::New(info.Env(), engine_->tun_name()));
  self.Set("eventFd", Napi::Number::New(info.Env(), engine_->take_event_fd()));
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

void EngineWrap::start(const Napi::CallbackInfo& info) {
  if (auto error = engine_->start()) to_js_error(info.Env(), *error).ThrowAsJavaScriptException();
}

void EngineWrap::change_routes(const Napi::CallbackInfo& info) {
  std::vector<Route> changes;
  if (read_route_changes(info[0], changes)) engine_->change_routes(changes);
}

Napi::Value EngineWrap::restore_device(const Napi::CallbackInfo& info) {
  auto restored = engine_->restore_device();
  if (!restored.ok()) {
    to_js_error(info.Env(), restored.error()).ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  return to_js_device_check(info.Env(), restored.value());
}

Napi::Value EngineWrap::lookup(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) {
    Napi::TypeError::New(info.Env(), "address: expected a number").ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  const uint32_t next_hop = engine_->lookup(info[0].As<Napi::Number>().Uint32Value());
  return next_hop == 0 ? info.Env().Undefined() : Napi::Number::New(info.Env(), next_hop);
}

Napi::Value EngineWrap::counters(const Napi::CallbackInfo& info) {
  Napi::Array out = Napi::Array::New(info.Env());
  const QueueDrops& drops = engine_->queue_drops();
  const auto encapsulations = engine_->encapsulations();
  const auto decapsulations = engine_->decapsulations();
  // The kernel counts for the device, not for each of its queues: all of it stands with the first.
  for (size_t i = 0; i < encapsulations.size(); ++i)
    out.Set(out.Length(), to_js_counters(info.Env(), "encapsulate", *encapsulations[i],
                                         i == 0 ? drops.tun : std::optional<uint64_t>(0)));
  for (size_t i = 0; i < decapsulations.size(); ++i)
    out.Set(out.Length(), to_js_counters(info.Env(), "decapsulate", *decapsulations[i],
                                         i < drops.udp.size() ? drops.udp[i] : std::nullopt));
  return out;
}

Napi::Value EngineWrap::queue_sizes(const Napi::CallbackInfo& info) {
  return to_js_queue_sizes(info.Env(), engine_->queue_sizes());
}

Napi::Value EngineWrap::features(const Napi::CallbackInfo& info) {
  return to_js_features(info.Env(), engine_->features());
}

void EngineWrap::close(const Napi::CallbackInfo&) { end(); }

}  // namespace flannelette
