// The addon's entry: what src/dataplane/native.ts declares, and nothing else.
#include <napi.h>

#include <memory>

#include "binding/convert.h"
#include "binding/engine_wrap.h"
#include "binding/route_lookup.h"
#include "sys/interfaces.h"
#include "sys/notify.h"
#include "sys/probe.h"
#include "sys/scheduling.h"

namespace flannelette {

namespace {

// State of one environment (the main thread or one worker).
struct Environment {
  EngineWrap::OpenEngines engines;
};

Napi::Value probe(const Napi::CallbackInfo& info) {
  const auto features = probe_features();
  Napi::Array out = Napi::Array::New(info.Env(), features.size());
  uint32_t at = 0;
  for (const Feature& feature : features) {
    Napi::Object row = Napi::Object::New(info.Env());
    row.Set("name", feature.name);
    row.Set("available", feature.available);
    row.Set("since", feature.since);
    row.Set("detail", feature.detail);
    out.Set(at++, row);
  }
  return out;
}

Napi::Value interfaces(const Napi::CallbackInfo& info) {
  auto listed = list_interfaces();
  if (!listed.ok()) {
    to_js_error(info.Env(), listed.error()).ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  Napi::Array out = Napi::Array::New(info.Env(), listed.value().size());
  uint32_t at = 0;
  for (const Interface& interface : listed.value()) {
    Napi::Object row = Napi::Object::New(info.Env());
    row.Set("name", interface.name);
    row.Set("index", interface.index);
    row.Set("mtu", interface.mtu);
    row.Set("up", interface.up);
    row.Set("loopback", interface.loopback);
    Napi::Array addresses = Napi::Array::New(info.Env(), interface.addresses.size());
    uint32_t number = 0;
    for (const InterfaceAddress& address : interface.addresses) {
      Napi::Object entry = Napi::Object::New(info.Env());
      entry.Set("address", address.address);
      entry.Set("prefix", address.prefix);
      addresses.Set(number++, entry);
    }
    row.Set("addresses", addresses);
    out.Set(at++, row);
  }
  return out;
}

Napi::Value cpus(const Napi::CallbackInfo& info) {
  auto listed = usable_cpus();
  if (!listed.ok()) {
    to_js_error(info.Env(), listed.error()).ThrowAsJavaScriptException();
    return info.Env().Undefined();
  }
  Napi::Array out = Napi::Array::New(info.Env(), listed.value().size());
  uint32_t at = 0;
  for (const unsigned cpu : listed.value()) out.Set(at++, cpu);
  return out;
}

Napi::Value notify_manager(const Napi::CallbackInfo& info) {
  std::string path;
  std::string message;
  if (!read_text(info[0], "path", path) || !read_text(info[1], "message", message))
    return info.Env().Undefined();
  if (const Status refused = notify(path, message); refused.has_value())
    to_js_error(info.Env(), *refused).ThrowAsJavaScriptException();
  return info.Env().Undefined();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  // Freed by the hook: finalizers of wraps that run later find their engine closed.
  auto* environment = new Environment();
  env.AddCleanupHook([environment] {
    const EngineWrap::OpenEngines open = environment->engines;
    for (EngineWrap* wrap : open) wrap->end();
  });
  env.SetInstanceData(environment);
  exports.Set("Engine", EngineWrap::define(env, &environment->engines));
  exports.Set("probe", Napi::Function::New(env, probe));
  exports.Set("interfaces", Napi::Function::New(env, interfaces));
  exports.Set("outgoingInterfaces", Napi::Function::New(env, outgoing_interfaces_of));
  exports.Set("cpus", Napi::Function::New(env, cpus));
  exports.Set("notify", Napi::Function::New(env, notify_manager));
  return exports;
}

}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, init)

}  // namespace flannelette
