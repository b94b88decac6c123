// The JavaScript class Engine: one wrap holds one engine of one environment.
//
// Life cycle: close() ends it; so does the garbage collector, and so does the environment's end
// (process.exit, worker.terminate) through one cleanup hook per environment, which runs before
// finalizers are lost. Closing joins the threads, so no thread outlives its environment.
//
// Not an ObjectWrap of node-addon-api: that ends the process when its constructor is interrupted (a
// getter of the options that the time-out of node:vm stops).
#pragma once

#include <napi.h>

#include <memory>
#include <set>

#include "engine/engine.h"

namespace flannelette {

class EngineWrap {
 public:
  // The engines of one environment that are still open.
  using OpenEngines = std::set<EngineWrap*>;

  // The class; empty when making it was refused.
  static Napi::Value define(Napi::Env env, OpenEngines* open);

  EngineWrap(std::unique_ptr<Engine> engine, OpenEngines* open);
  ~EngineWrap() { end(); }
  EngineWrap(const EngineWrap&) = delete;
  EngineWrap& operator=(const EngineWrap&) = delete;

  void end();

 private:
  static napi_value construct(napi_env env, napi_callback_info info);
  static void finalize(napi_env env, void* wrap, void* hint);
  using Method = Napi::Value (EngineWrap::*)(const Napi::CallbackInfo&);
  template <Method method>
  static napi_value call(napi_env env, napi_callback_info info);

  Napi::Value take_event_fd(const Napi::CallbackInfo& info);
  Napi::Value send_descriptors(const Napi::CallbackInfo& info);
  Napi::Value store_descriptors(const Napi::CallbackInfo& info);
  Napi::Value store_kernel_path(const Napi::CallbackInfo& info);
  Napi::Value start(const Napi::CallbackInfo& info);
  Napi::Value change_routes(const Napi::CallbackInfo& info);
  Napi::Value change_mode(const Napi::CallbackInfo& info);
  Napi::Value restore_device(const Napi::CallbackInfo& info);
  Napi::Value lookup(const Napi::CallbackInfo& info);
  Napi::Value counters(const Napi::CallbackInfo& info);
  Napi::Value features(const Napi::CallbackInfo& info);
  Napi::Value queue_sizes(const Napi::CallbackInfo& info);
  Napi::Value step_aside(const Napi::CallbackInfo& info);
  Napi::Value step_back(const Napi::CallbackInfo& info);
  Napi::Value filter_sources(const Napi::CallbackInfo& info);
  Napi::Value leave(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);

  // Queues and sockets, and one more if it is none below 0.
  std::vector<int> tunnel_and(int more) const;
  // To the path, with the message, that are the arguments.
  static void send(const Napi::CallbackInfo& info, std::span<const int> fds);

  std::unique_ptr<Engine> engine_;
  OpenEngines* open_;
};

}  // namespace flannelette
