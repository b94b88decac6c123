// Between JavaScript values and the engine's types. Every check of an argument is here; what passes
// is within range, so the layers below need no second look.
#pragma once

#include <napi.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/forwarding_table.h"
#include "engine/engine.h"
#include "sys/exit_guard.h"
#include "sys/privileges.h"

namespace flannelette {

// Each returns false when the value does not fit and a TypeError or RangeError that names the
// argument or field was thrown, and when reading it was refused (binding/node_api.h).
bool read_text(const Napi::Value& value, const char* name, std::string& out);
bool read_options(const Napi::Value& value, EngineOptions& out);
bool read_mode_name(const Napi::Value& value, Mode& out);
// A next hop of 0 takes the route away.
bool read_route_changes(const Napi::Value& value, std::vector<Route>& out);

bool read_signal_limits(const Napi::Value& value, std::vector<int>& signals, SignalLimits& out);
// Milliseconds and an exit code.
bool read_exit(const Napi::Value& ms, const Napi::Value& code, int& ms_out, int& code_out);

// Capabilities as their numbers.
bool read_fewer_privileges(const Napi::Value& value, FewerPrivileges& out);
// What an execve takes besides; texts without NUL.
bool read_restart(const Napi::Value& value, Restart& out);

// The greatest IPv4 address and the greatest index of an interface, as read_whole takes them.
inline constexpr double kAddressMax = std::numeric_limits<uint32_t>::max();
inline constexpr double kIndexMax = std::numeric_limits<int>::max();

// Whether the value is a whole number from `least` to `most`, which `out` must be able to hold; it
// throws nothing.
template <typename Number>
bool read_whole(const Napi::Value& value, double least, double most, Number& out) {
  if (!value.IsNumber()) return false;
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= least && number <= most)) return false;
  out = static_cast<Number>(number);
  return static_cast<double>(out) == number;
}

// Empty when Node-API refused.
Napi::Value to_js_features(Napi::Env env, const FeatureSwitches& features);
// `queue_drops`: of the queue in front of the direction; empty when the kernel does not tell.
Napi::Value to_js_counters(Napi::Env env, const char* name, const Direction& direction,
                           std::optional<uint64_t> queue_drops);
Napi::Value to_js_device_check(Napi::Env env, const EngineDeviceCheck& check);
Napi::Value to_js_queue_sizes(Napi::Env env, const QueueSizes& sizes);

}  // namespace flannelette
