// The JavaScript class Engine: one wrap holds one engine of one environment.
//
// Life cycle: close() ends it; so does the garbage collector, and so does the environment's end
// (process.exit, worker.terminate) through one cleanup hook per environment, which runs before
// finalizers are lost. Closing joins the threads, so no thread outlives its environment.
#pragma once

#include <napi.h>

#include <memory>
#include <set>

#include "engine/engine.h"

namespace flannelette {

class EngineWrap : public Napi::ObjectWrap<EngineWrap> {
 public:
  // The engines of one environment that are still open.
  using OpenEngines = std::set<EngineWrap*>;

  static Napi::Function define(Napi::Env env, OpenEngines* open);
  explicit EngineWrap(const Napi::CallbackInfo& info);
  ~EngineWrap() override;

  void end();

 private:
  // Whether there is an engine; throws when not.
  bool opened(const Napi::CallbackInfo& info) const;
  Napi::Value take_event_fd(const Napi::CallbackInfo& info);
  void start(const Napi::CallbackInfo& info);
  void change_routes(const Napi::CallbackInfo& info);
  Napi::Value restore_device(const Napi::CallbackInfo& info);
  Napi::Value lookup(const Napi::CallbackInfo& info);
  Napi::Value counters(const Napi::CallbackInfo& info);
  Napi::Value features(const Napi::CallbackInfo& info);
  Napi::Value queue_sizes(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  OpenEngines* open_ = nullptr;
  std::unique_ptr<Engine> engine_;
};

}  // namespace flannelette
