// Between JavaScript values and the engine's types. Every check of an argument is here; what passes
// is within range, so the layers below need no second look.
#pragma once

#include <napi.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/forwarding_table.h"
#include "core/result.h"
#include "engine/engine.h"

namespace flannelette {

// A JavaScript Error with `code` (errno name), `errno` (positive) and `syscall`.
Napi::Error to_js_error(Napi::Env env, const Error& error);

// Throws a TypeError that names the argument and returns false when the value is no string.
bool read_text(const Napi::Value& value, const char* name, std::string& out);

// Throws a TypeError or RangeError that names the field and returns false when it does not fit.
bool read_options(const Napi::Value& value, EngineOptions& out);
// A next hop of 0 takes the route away.
bool read_route_changes(const Napi::Value& value, std::vector<Route>& out);

Napi::Array to_js_features(Napi::Env env, const FeatureSwitches& features);
// `queue_drops`: of the queue in front of the direction; empty when the kernel does not tell.
Napi::Object to_js_counters(Napi::Env env, const char* name, const Direction& direction,
                            std::optional<uint64_t> queue_drops);
Napi::Object to_js_device_check(Napi::Env env, const EngineDeviceCheck& check);
Napi::Object to_js_queue_sizes(Napi::Env env, const QueueSizes& sizes);

}  // namespace flannelette
