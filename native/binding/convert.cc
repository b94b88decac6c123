#include "binding/convert.h"

#include <sched.h>

#include <cmath>
#include <cstring>

#include "binding/node_api.h"

namespace flannelette {

namespace {

// As many as the addressable subnets of a /8 in /32, and no memory that the kernel could not give.
constexpr size_t kRouteChangesMax = size_t{1} << 24;
// A day.
constexpr double kExitMsMax = 86'400'000;
// Names in a list that may repeat some.
constexpr uint32_t kNamesMax = 64;
// More than an execve takes by far.
constexpr uint32_t kTextsMax = 65536;
constexpr int kDescriptorsMax = 1024;

// Fields and elements are read by `get`, which fails without throwing when reading was refused;
// each check below has thrown when it fails.

void throw_unexpected(Napi::Env env, const std::string& field, const std::string& expected) {
  throw_range(env, field + ": expected " + expected);
}

bool read_integer(const Napi::Value& value, const char* field, double low, double high,
                  double& out) {
  out = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (out >= low && out <= high && out == std::floor(out)) return true;
  throw_unexpected(value.Env(), field,
                   "an integer from " + std::to_string(static_cast<int64_t>(low)) + " to " +
                       std::to_string(static_cast<int64_t>(high)));
  return false;
}

template <typename T>
bool read_number(const Napi::Object& from, const char* field, double low, double high, T& out) {
  Napi::Value value;
  double number = 0;
  if (!get(from, field, value) || !read_integer(value, field, low, high, number)) return false;
  out = static_cast<T>(number);
  return true;
}

bool read_address(const Napi::Object& from, const char* field, uint32_t& out) {
  return read_number(from, field, 0, 4294967295.0, out);
}

bool read_subnet(const Napi::Object& from, const char* network, const char* prefix, Subnet& out) {
  if (!read_address(from, network, out.network) || !read_number(from, prefix, 0, 32, out.prefix))
    return false;
  if ((out.network & ~prefix_mask(out.prefix)) == 0) return true;
  throw_unexpected(from.Env(), network, "no bits set outside its prefix");
  return false;
}

bool read_string(const Napi::Object& from, const char* field, std::string& out) {
  Napi::Value value;
  return get(from, field, value) && read_text(value, field, out);
}

bool read_boolean(const Napi::Object& from, const char* field, bool& out) {
  Napi::Value value;
  if (!get(from, field, value)) return false;
  if (value.IsBoolean()) {
    out = value.As<Napi::Boolean>().Value();
    return true;
  }
  throw_type(from.Env(), std::string(field) + ": expected a boolean");
  return false;
}

// As it is when it is undefined.
bool read_optional_boolean(const Napi::Object& from, const char* field, bool& out) {
  Napi::Value value;
  if (!get(from, field, value)) return false;
  return value.IsUndefined() || read_boolean(from, field, out);
}

// An array of at most `most` elements.
bool read_array(const Napi::Object& from, const char* field, uint32_t most, Napi::Array& out) {
  Napi::Value value;
  if (!get(from, field, value)) return false;
  uint32_t length = 0;
  // A Proxy of an array has no length that could be read without running its code.
  if (!value.IsArray() || napi_get_array_length(from.Env(), value, &length) != napi_ok) {
    throw_type(from.Env(), std::string(field) + ": expected an array");
    return false;
  }
  if (length > most) {
    throw_unexpected(from.Env(), field, "at most " + std::to_string(most) + " elements");
    return false;
  }
  out = value.As<Napi::Array>();
  return true;
}

bool mode_named(Napi::Env env, const std::string& name, Mode& out) {
  if (name == "basic") {
    out = Mode::kBasic;
  } else if (name == "batch") {
    out = Mode::kBatch;
  } else if (name == "offload") {
    out = Mode::kOffload;
  } else if (name == "kernel") {
    out = Mode::kKernel;
  } else {
    throw_unexpected(env, "mode", "basic, batch, offload or kernel");
    return false;
  }
  return true;
}

bool read_mode(const Napi::Object& from, Mode& out) {
  std::string text;
  return read_string(from, "mode", text) && mode_named(from.Env(), text, out);
}

// One thread, or two for each queue pair.
bool read_workers(const Napi::Object& from, size_t& out) {
  if (!read_number(from, "workers", 1, 2.0 * kQueuePairsMax, out)) return false;
  if (out == 1 || out % 2 == 0) return true;
  throw_unexpected(from.Env(), "workers", "1 or an even number");
  return false;
}

// A list of at most `most` integers.
template <typename T>
bool read_numbers(const Napi::Object& from, const char* field, uint32_t most, double low,
                  double high, std::vector<T>& out) {
  Napi::Array numbers;
  if (!read_array(from, field, most, numbers)) return false;
  for (uint32_t at = 0; at < numbers.Length(); ++at) {
    Napi::Value value;
    double number = 0;
    if (!get(numbers, at, value) || !read_integer(value, field, low, high, number)) return false;
    out.push_back(static_cast<T>(number));
  }
  return true;
}

// A list of descriptors; undefined is none.
bool read_descriptors(const Napi::Object& from, const char* field, std::vector<int>& out) {
  Napi::Value value;
  if (!get(from, field, value)) return false;
  if (value.IsUndefined()) return true;
  return read_numbers(from, field, kQueuePairsMax, 3, std::numeric_limits<int>::max(), out);
}

bool read_descriptor(const Napi::Object& from, const char* field, int& out) {
  Napi::Value value;
  if (!get(from, field, value)) return false;
  return value.IsUndefined() || read_number(from, field, 3, std::numeric_limits<int>::max(), out);
}

// A list of texts without NUL.
bool read_texts(const Napi::Object& from, const char* field, std::vector<std::string>& out) {
  Napi::Array texts;
  if (!read_array(from, field, kTextsMax, texts)) return false;
  for (uint32_t at = 0; at < texts.Length(); ++at) {
    Napi::Value value;
    std::string text;
    if (!get(texts, at, value) || !read_text(value, field, text)) return false;
    if (text.find('\0') != std::string::npos) {
      throw_unexpected(from.Env(), field, "texts without NUL");
      return false;
    }
    out.push_back(std::move(text));
  }
  return true;
}

// A list of feature names as a set.
bool read_features(const Napi::Object& from, const char* field, FeatureSet& out) {
  Napi::Array names;
  if (!read_array(from, field, kNamesMax, names)) return false;
  for (uint32_t at = 0; at < names.Length(); ++at) {
    Napi::Value value;
    std::string name;
    if (!get(names, at, value) || !read_text(value, field, name)) return false;
    FeatureSet bit = 0;
    for (size_t i = 0; i < kKernelFeatures; ++i) {
      const auto feature = static_cast<KernelFeature>(i);
      if (name == feature_name(feature)) bit = feature_bit(feature);
    }
    if (bit == 0) {
      throw_unexpected(from.Env(), field, "names of kernel features");
      return false;
    }
    out |= bit;
  }
  return true;
}

const char* state_name(FeatureState state) {
  switch (state) {
    case FeatureState::kUnused:
      return "unused";
    case FeatureState::kDisabled:
      return "disabled";
    case FeatureState::kRefused:
      return "refused";
    case FeatureState::kActive:
      return "active";
  }
  return "";
}

}  // namespace

bool read_text(const Napi::Value& value, const char* name, std::string& out) {
  if (value.IsString()) {
    out = value.As<Napi::String>().Utf8Value();
    return true;
  }
  throw_type(value.Env(), std::string(name) + ": expected a string");
  return false;
}

bool read_options(const Napi::Value& value, EngineOptions& out) {
  if (!value.IsObject()) {
    throw_type(value.Env(), "options: expected an object");
    return false;
  }
  const auto from = value.As<Napi::Object>();
  if (!read_string(from, "tunName", out.tun_name)) return false;
  if (out.tun_name.empty() || out.tun_name.size() > 15 ||
      out.tun_name.find('\0') != std::string::npos) {
    throw_unexpected(from.Env(), "tunName", "1 to 15 bytes, none of them NUL");
    return false;
  }
  if (!read_address(from, "tunAddress", out.tun_address) ||
      !read_subnet(from, "network", "networkPrefix", out.overlay) ||
      !read_subnet(from, "subnet", "subnetPrefix", out.own) ||
      !read_number(from, "mtu", 68, 65507, out.mtu) ||
      !read_address(from, "bindAddress", out.bind_address) ||
      !read_number(from, "port", 1, 65535, out.port) ||
      !read_number(from, "socketBufferBytes", 0, kSocketBufferBytesMax, out.socket_buffer_bytes) ||
      !read_mode(from, out.mode) || !read_features(from, "disabled", out.disabled) ||
      !read_workers(from, out.workers) ||
      !read_number(from, "tunQueuePackets", 1, kTunQueuePacketsMax, out.tun_queue_packets) ||
      !read_number(from, "ringBytes", kRingBytesMin, kRingBytesMax, out.ring_bytes) ||
      !read_number(from, "pathMtuSeconds", 1, kPathMtuSecondsMax, out.path_mtu_seconds) ||
      !read_number(from, "sourcePorts", 1, kSourcePortsMax, out.source_ports) ||
      !read_numbers(from, "cpus", CPU_SETSIZE, 0, CPU_SETSIZE - 1, out.cpus) ||
      !read_boolean(from, "sourceCheck", out.source_check) ||
      !read_optional_boolean(from, "aside", out.aside))
    return false;
  // Last: from here on they are the engine's, and nobody else's to close.
  return read_descriptors(from, "adoptedTun", out.adopted_tun) &&
         read_descriptors(from, "adoptedUdp", out.adopted_udp) &&
         read_descriptors(from, "adoptedLinks", out.adopted_links) &&
         read_descriptor(from, "adoptedUntil", out.adopted_until);
}

bool read_mode_name(const Napi::Value& value, Mode& out) {
  std::string text;
  return read_text(value, "mode", text) && mode_named(value.Env(), text, out);
}

bool read_signal_limits(const Napi::Value& value, std::vector<int>& signals, SignalLimits& out) {
  if (!value.IsObject()) {
    throw_type(value.Env(), "limits: expected an object");
    return false;
  }
  const auto from = value.As<Napi::Object>();
  return read_numbers(from, "signals", kNamesMax, 1, 31, signals) &&
         read_number(from, "firstMs", 0, kExitMsMax, out.first_ms) &&
         read_number(from, "secondMs", 0, kExitMsMax, out.second_ms) &&
         read_number(from, "code", 0, 255, out.code) && read_string(from, "message", out.message);
}

bool read_exit(const Napi::Value& ms, const Napi::Value& code, int& ms_out, int& code_out) {
  double time = 0;
  double number = 0;
  if (!read_integer(ms, "ms", 0, kExitMsMax, time) || !read_integer(code, "code", 0, 255, number))
    return false;
  ms_out = static_cast<int>(time);
  code_out = static_cast<int>(number);
  return true;
}

bool read_fewer_privileges(const Napi::Value& value, FewerPrivileges& out) {
  if (!value.IsObject()) {
    throw_type(value.Env(), "privileges: expected an object");
    return false;
  }
  const auto from = value.As<Napi::Object>();
  std::vector<unsigned> keep;
  if (!read_numbers(from, "keep", kNamesMax, 0, 63, keep) ||
      !read_boolean(from, "unlimitedLockedMemory", out.unlimited_locked_memory))
    return false;
  for (const unsigned capability : keep) out.keep |= CapabilitySet{1} << capability;
  return true;
}

bool read_restart(const Napi::Value& value, Restart& out) {
  if (!value.IsObject()) {
    throw_type(value.Env(), "restart: expected an object");
    return false;
  }
  const auto from = value.As<Napi::Object>();
  return read_string(from, "path", out.path) && read_texts(from, "arguments", out.arguments) &&
         read_texts(from, "environment", out.environment) &&
         read_number(from, "descriptors", 3, kDescriptorsMax, out.descriptors) &&
         read_fewer_privileges(value, out.privileges);
}

bool read_route_changes(const Napi::Value& value, std::vector<Route>& out) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array ||
      value.As<Napi::TypedArray>().ElementLength() % 3 != 0) {
    throw_type(value.Env(), "routes: expected a Uint32Array of network, prefix length, next hop");
    return false;
  }
  const auto triples = value.As<Napi::Uint32Array>();
  if (triples.ElementLength() / 3 > kRouteChangesMax) {
    throw_unexpected(value.Env(), "routes",
                     "at most " + std::to_string(kRouteChangesMax) + " changes at a time");
    return false;
  }
  out.reserve(triples.ElementLength() / 3);
  for (size_t i = 0; i < triples.ElementLength(); i += 3) {
    const Route route{{triples[i], triples[i + 1]}, triples[i + 2]};
    if (route.subnet.prefix > 32 ||
        (route.subnet.network & ~prefix_mask(route.subnet.prefix)) != 0) {
      throw_unexpected(value.Env(), "routes[" + std::to_string(i / 3) + "]",
                       "a prefix length of 0 to 32 and no bits outside it");
      return false;
    }
    out.push_back(route);
  }
  return true;
}

Napi::Value to_js_features(Napi::Env env, const FeatureSwitches& features) {
  std::vector<Napi::Value> rows;
  for (size_t i = 0; i < kKernelFeatures; ++i) {
    const auto feature = static_cast<KernelFeature>(i);
    Fields row(env);
    row.add("name", feature_name(feature));
    row.add("state", state_name(features.state(feature)));
    row.add("errno", features.error(feature));
    rows.push_back(row.object());
  }
  return to_js_array(env, rows);
}

Napi::Value to_js_device_check(Napi::Env env, const EngineDeviceCheck& check) {
  const DeviceCheck& device = check.device;
  Fields out(env);
  out.add("name", device.link.name);
  out.add("up", device.link.up);
  out.add("mtu", device.link.mtu);
  out.add("master", device.master);
  out.add("addressRestored", device.address_restored);
  out.add("carrierRestored", device.carrier_restored);
  out.add("mtuRestored", device.mtu_restored);
  out.add("routeAdded", device.route == RouteChange::kAdded);
  out.add("routeReplaced", device.route == RouteChange::kReplaced);
  out.add("overlayTakenBy", device.overlay_taken_by);
  out.add("refused", check.refused);
  out.add("refusedErrno", device.lookup.error);
  return out.object();
}

Napi::Value to_js_queue_sizes(Napi::Env env, const QueueSizes& sizes) {
  Fields out(env);
  out.add("socketReceiveBytes", sizes.socket.receive_bytes);
  out.add("socketSendBytes", sizes.socket.send_bytes);
  out.add("tunPackets", sizes.tun_packets);
  return out.object();
}

Napi::Value to_js_counters(Napi::Env env, const char* name, const Direction& direction,
                           std::optional<uint64_t> queue_drops) {
  const ThreadCounters& counters = direction.counters();
  Fields drops(env);
  for (size_t i = 0; i < kDropReasons; ++i)
    drops.add(drop_reason_name(static_cast<DropReason>(i)), counters.drops[i].get());
  std::vector<Napi::Value> sizes;
  for (const Counter& bucket : counters.batch_sizes)
    sizes.push_back(Napi::Number::New(env, static_cast<double>(bucket.get())));

  Fields out(env);
  out.add("direction", name);
  each_counter(counters, [&](const char* counter, uint64_t value) { out.add(counter, value); });
  if (queue_drops.has_value()) {
    out.add("queueDrops", *queue_drops);
  } else {
    out.add("queueDrops", env.Null());
  }
  out.add("drops", drops.object());
  out.add("batchSizes", to_js_array(env, sizes));
  return out.object();
}

}  // namespace flannelette
