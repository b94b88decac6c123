#include "binding/engine_wrap.h"

#include <cerrno>
#include <vector>

#include "binding/convert.h"
#include "binding/node_api.h"
#include "sys/notify.h"

namespace flannelette {

Napi::Value EngineWrap::define(Napi::Env env, OpenEngines* open) {
  Fields methods(env);
  methods.add_function("takeEventFd", call<&EngineWrap::take_event_fd>);
  methods.add_function("start", call<&EngineWrap::start>);
  methods.add_function("changeRoutes", call<&EngineWrap::change_routes>);
  methods.add_function("changeMode", call<&EngineWrap::change_mode>);
  methods.add_function("restoreDevice", call<&EngineWrap::restore_device>);
  methods.add_function("lookup", call<&EngineWrap::lookup>);
  methods.add_function("counters", call<&EngineWrap::counters>);
  methods.add_function("features", call<&EngineWrap::features>);
  methods.add_function("queueSizes", call<&EngineWrap::queue_sizes>);
  methods.add_function("sendDescriptors", call<&EngineWrap::send_descriptors>);
  methods.add_function("storeDescriptors", call<&EngineWrap::store_descriptors>);
  methods.add_function("storeKernelPath", call<&EngineWrap::store_kernel_path>);
  methods.add_function("stepAside", call<&EngineWrap::step_aside>);
  methods.add_function("stepBack", call<&EngineWrap::step_back>);
  methods.add_function("filterSources", call<&EngineWrap::filter_sources>);
  methods.add_function("leave", call<&EngineWrap::leave>);
  methods.add_function("close", call<&EngineWrap::close>);
  return methods.define_class("Engine", construct, open);
}

EngineWrap::EngineWrap(std::unique_ptr<Engine> engine, OpenEngines* open)
    : engine_(std::move(engine)), open_(open) {
  open_->insert(this);
}

void EngineWrap::end() {
  // After the environment's hook has ended every engine the set is gone, and a late finalizer must
  // not touch it.
  if (open_ == nullptr) return;
  engine_->close();
  open_->erase(this);
  open_ = nullptr;
}

napi_value EngineWrap::construct(napi_env env, napi_callback_info given) {
  const Napi::CallbackInfo info(env, given);
  if (!info.IsConstructCall()) {
    throw_type(env, "Engine: expected new");
    return nullptr;
  }
  EngineOptions options;
  if (!read_options(info[0], options)) return nullptr;
  auto opened = Engine::open(options);
  if (!opened.ok()) {
    throw_system(env, opened.error());
    return nullptr;
  }
  auto wrap = std::make_unique<EngineWrap>(std::move(opened.value()),
                                           static_cast<OpenEngines*>(info.Data()));
  Fields self(env);
  self.add("tunName", wrap->engine_->tun_name());
  // An engine that JavaScript does not get is closed again.
  if (!self.define(info.This()) ||
      napi_wrap(env, info.This(), wrap.get(), finalize, nullptr, nullptr) != napi_ok)
    return nullptr;
  (void)wrap.release();
  return info.This();
}

void EngineWrap::finalize(napi_env /*env*/, void* wrap, void* /*hint*/) {
  delete static_cast<EngineWrap*>(wrap);
}

template <EngineWrap::Method method>
napi_value EngineWrap::call(napi_env env, napi_callback_info given) {
  const Napi::CallbackInfo info(env, given);
  // The class's signature has made sure of what `this` is; only an environment that ends refuses.
  void* wrap = nullptr;
  if (napi_unwrap(env, info.This(), &wrap) != napi_ok) return nullptr;
  return (static_cast<EngineWrap*>(wrap)->*method)(info);
}

Napi::Value EngineWrap::take_event_fd(const Napi::CallbackInfo& info) {
  const int fd = engine_->take_event_fd();
  if (fd >= 0) return Napi::Number::New(info.Env(), fd);
  throw_system(info.Env(), {EBADF, "takeEventFd", "taken or closed"});
  return {};
}

Napi::Value EngineWrap::send_descriptors(const Napi::CallbackInfo& info) {
  auto until = engine_->until_stopped();
  if (until.ok())
    send(info, tunnel_and(until.value().get()));
  else
    throw_system(info.Env(), until.error());
  return {};
}

Napi::Value EngineWrap::store_descriptors(const Napi::CallbackInfo& info) {
  send(info, tunnel_and(-1));
  return {};
}

Napi::Value EngineWrap::store_kernel_path(const Napi::CallbackInfo& info) {
  const std::vector<int> links = engine_->kernel_path_fds();
  if (!links.empty()) send(info, links);
  return Napi::Boolean::New(info.Env(), !links.empty());
}

std::vector<int> EngineWrap::tunnel_and(int more) const {
  std::vector<int> fds = engine_->tun_fds();
  const std::vector<int> sockets = engine_->udp_fds();
  fds.insert(fds.end(), sockets.begin(), sockets.end());
  if (more >= 0) fds.push_back(more);
  return fds;
}

void EngineWrap::send(const Napi::CallbackInfo& info, std::span<const int> fds) {
  std::string path;
  std::string message;
  if (!read_text(info[0], "path", path) || !read_text(info[1], "message", message)) return;
  if (auto error = notify(path, message, fds)) throw_system(info.Env(), *error);
}

Napi::Value EngineWrap::start(const Napi::CallbackInfo& info) {
  if (auto error = engine_->start()) throw_system(info.Env(), *error);
  return {};
}

Napi::Value EngineWrap::change_routes(const Napi::CallbackInfo& info) {
  std::vector<Route> changes;
  if (read_route_changes(info[0], changes)) engine_->change_routes(changes);
  return {};
}

Napi::Value EngineWrap::change_mode(const Napi::CallbackInfo& info) {
  Mode mode = Mode::kBasic;
  if (!read_mode_name(info[0], mode)) return {};
  if (auto error = engine_->change_mode(mode)) throw_system(info.Env(), *error);
  return {};
}

Napi::Value EngineWrap::step_aside(const Napi::CallbackInfo& info) {
  if (auto error = engine_->step_aside()) throw_system(info.Env(), *error);
  return {};
}

Napi::Value EngineWrap::step_back(const Napi::CallbackInfo& info) {
  if (auto error = engine_->step_back()) throw_system(info.Env(), *error);
  return {};
}

Napi::Value EngineWrap::restore_device(const Napi::CallbackInfo& info) {
  auto restored = engine_->restore_device();
  if (restored.ok()) return to_js_device_check(info.Env(), restored.value());
  throw_system(info.Env(), restored.error());
  return {};
}

Napi::Value EngineWrap::filter_sources(const Napi::CallbackInfo& info) {
  if (!info[0].IsBoolean()) {
    throw_type(info.Env(), "on: expected a boolean");
    return {};
  }
  if (auto error = engine_->filter_sources(info[0].As<Napi::Boolean>().Value()))
    throw_system(info.Env(), *error);
  return {};
}

Napi::Value EngineWrap::lookup(const Napi::CallbackInfo& info) {
  if (!info[0].IsNumber()) {
    throw_type(info.Env(), "address: expected a number");
    return {};
  }
  const uint32_t next_hop = engine_->lookup(info[0].As<Napi::Number>().Uint32Value());
  if (next_hop == 0) return {};
  return Napi::Number::New(info.Env(), next_hop);
}

Napi::Value EngineWrap::counters(const Napi::CallbackInfo& info) {
  std::vector<Napi::Value> out;
  const QueueDrops& drops = engine_->queue_drops();
  engine_->count_kernel_share();
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
  return to_js_queue_sizes(info.Env(), engine_->queue_sizes());
}

Napi::Value EngineWrap::features(const Napi::CallbackInfo& info) {
  return to_js_features(info.Env(), engine_->features());
}

Napi::Value EngineWrap::leave(const Napi::CallbackInfo& /*info*/) {
  engine_->leave();
  end();
  return {};
}

Napi::Value EngineWrap::close(const Napi::CallbackInfo& /*info*/) {
  end();
  return {};
}

}  // namespace flannelette
