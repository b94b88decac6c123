#include "binding/convert.h"

#include <sched.h>

#include <cmath>
#include <cstring>

namespace flannelette {

namespace {

void throw_range(Napi::Env env, const std::string& field, const std::string& expected) {
  Napi::RangeError::New(env, field + ": expected " + expected).ThrowAsJavaScriptException();
}

bool read_integer(const Napi::Object& from, const char* field, double low, double high,
                  double& out) {
  const Napi::Value value = from.Get(field);
  out = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (out >= low && out <= high && out == std::floor(out)) return true;
  throw_range(from.Env(), field,
              "an integer from " + std::to_string(static_cast<int64_t>(low)) + " to " +
                  std::to_string(static_cast<int64_t>(high)));
  return false;
}

template <typename T>
bool read_number(const Napi::Object& from, const char* field, double low, double high, T& out) {
  double number = 0;
  if (!read_integer(from, field, low, high, number)) return false;
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
  throw_range(from.Env(), network, "no bits set outside its prefix");
  return false;
}

bool read_string(const Napi::Object& from, const char* field, std::string& out) {
  return read_text(from.Get(field), field, out);
}

bool read_mode(const Napi::Object& from, Mode& out) {
  std::string text;
  if (!read_string(from, "mode", text)) return false;
  if (text == "basic") {
    out = Mode::kBasic;
  } else if (text == "batch") {
    out = Mode::kBatch;
  } else if (text == "offload") {
    out = Mode::kOffload;
  } else {
    throw_range(from.Env(), "mode", "basic, batch or offload");
    return false;
  }
  return true;
}

// One thread, or two for each queue pair.
bool read_workers(const Napi::Object& from, size_t& out) {
  if (!read_number(from, "workers", 1, 2.0 * kQueuePairsMax, out)) return false;
  if (out == 1 || out % 2 == 0) return true;
  throw_range(from.Env(), "workers", "1 or an even number");
  return false;
}

bool read_cpus(const Napi::Object& from, std::vector<unsigned>& out) {
  const Napi::Value value = from.Get("cpus");
  if (!value.IsArray()) {
    Napi::TypeError::New(from.Env(), "cpus: expected an array").ThrowAsJavaScriptException();
    return false;
  }
  const auto numbers = value.As<Napi::Array>();
  for (uint32_t at = 0; at < numbers.Length(); ++at) {
    const Napi::Value number = numbers.Get(at);
    const double cpu = number.IsNumber() ? number.As<Napi::Number>().DoubleValue() : NAN;
    if (!(cpu >= 0 && cpu < CPU_SETSIZE && cpu == std::floor(cpu))) {
      throw_range(from.Env(), "cpus", "numbers of CPUs");
      return false;
    }
    out.push_back(static_cast<unsigned>(cpu));
  }
  return true;
}

// A list of feature names as a set.
bool read_features(const Napi::Object& from, const char* field, FeatureSet& out) {
  const Napi::Value value = from.Get(field);
  if (!value.IsArray()) {
    Napi::TypeError::New(from.Env(), std::string(field) + ": expected an array")
        .ThrowAsJavaScriptException();
    return false;
  }
  const auto names = value.As<Napi::Array>();
  for (uint32_t at = 0; at < names.Length(); ++at) {
    std::string name;
    if (!read_text(names.Get(at), field, name)) return false;
    FeatureSet bit = 0;
    for (size_t i = 0; i < kKernelFeatures; ++i) {
      const auto feature = static_cast<KernelFeature>(i);
      if (name == feature_name(feature)) bit = feature_bit(feature);
    }
    if (bit == 0) {
      throw_range(from.Env(), field, "names of kernel features");
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

Napi::Error to_js_error(Napi::Env env, const Error& error) {
  const char* name = ::strerrorname_np(error.number);
  const std::string code = name == nullptr ? std::to_string(error.number) : name;
  std::string message = std::string(error.operation) + ": " + code;
  if (!error.detail.empty()) message += " (" + error.detail + ")";
  Napi::Error out = Napi::Error::New(env, message);
  out.Set("code", Napi::String::New(env, code));
  out.Set("errno", Napi::Number::New(env, error.number));
  out.Set("syscall", Napi::String::New(env, error.operation));
  return out;
}

bool read_text(const Napi::Value& value, const char* name, std::string& out) {
  if (value.IsString()) {
    out = value.As<Napi::String>().Utf8Value();
    return true;
  }
  Napi::TypeError::New(value.Env(), std::string(name) + ": expected a string")
      .ThrowAsJavaScriptException();
  return false;
}

bool read_options(const Napi::Value& value, EngineOptions& out) {
  if (!value.IsObject()) {
    Napi::TypeError::New(value.Env(), "options: expected an object").ThrowAsJavaScriptException();
    return false;
  }
  const auto from = value.As<Napi::Object>();
  if (!read_string(from, "tunName", out.tun_name)) return false;
  if (out.tun_name.empty() || out.tun_name.size() > 15) {
    throw_range(from.Env(), "tunName", "1 to 15 bytes");
    return false;
  }
  if (!read_address(from, "tunAddress", out.tun_address) ||
      !read_subnet(from, "network", "networkPrefix", out.overlay) ||
      !read_subnet(from, "subnet", "subnetPrefix", out.own) ||
      !read_number(from, "mtu", 68, 65507, out.mtu) ||
      !read_address(from, "bindAddress", out.bind_address) ||
      !read_number(from, "port", 1, 65535, out.port) ||
      !read_number(from, "socketBufferBytes", 0, 1 << 30, out.socket_buffer_bytes) ||
      !read_mode(from, out.mode) || !read_features(from, "disabled", out.disabled) ||
      !read_workers(from, out.workers) ||
      !read_number(from, "tunQueuePackets", 1, 65536, out.tun_queue_packets) ||
      !read_number(from, "ringBytes", kRingBytesMin, kRingBytesMax, out.ring_bytes) ||
      !read_number(from, "sourcePorts", 1, kSourcePortsMax, out.source_ports) ||
      !read_cpus(from, out.cpus))
    return false;
  const Napi::Value check = from.Get("sourceCheck");
  if (!check.IsBoolean()) {
    Napi::TypeError::New(from.Env(), "sourceCheck: expected a boolean")
        .ThrowAsJavaScriptException();
    return false;
  }
  out.source_check = check.As<Napi::Boolean>().Value();
  return true;
}

bool read_route_changes(const Napi::Value& value, std::vector<Route>& out) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint32_array ||
      value.As<Napi::TypedArray>().ElementLength() % 3 != 0) {
    Napi::TypeError::New(value.Env(),
                         "routes: expected a Uint32Array of network, prefix length, next hop")
        .ThrowAsJavaScriptException();
    return false;
  }
  const auto triples = value.As<Napi::Uint32Array>();
  out.reserve(triples.ElementLength() / 3);
  for (size_t i = 0; i < triples.ElementLength(); i += 3) {
    const Route route{{triples[i], triples[i + 1]}, triples[i + 2]};
    if (route.subnet.prefix > 32 ||
        (route.subnet.network & ~prefix_mask(route.subnet.prefix)) != 0) {
      throw_range(value.Env(), "routes[" + std::to_string(i / 3) + "]",
                  "a prefix length of 0 to 32 and no bits outside it");
      return false;
    }
    out.push_back(route);
  }
  return true;
}

Napi::Array to_js_features(Napi::Env env, const FeatureSwitches& features) {
  Napi::Array out = Napi::Array::New(env, kKernelFeatures);
  for (size_t i = 0; i < kKernelFeatures; ++i) {
    const auto feature = static_cast<KernelFeature>(i);
    Napi::Object row = Napi::Object::New(env);
    row.Set("name", feature_name(feature));
    row.Set("state", state_name(features.state(feature)));
    row.Set("errno", features.error(feature));
    out.Set(static_cast<uint32_t>(i), row);
  }
  return out;
}

Napi::Object to_js_device_check(Napi::Env env, const EngineDeviceCheck& check) {
  const DeviceCheck& device = check.device;
  Napi::Object out = Napi::Object::New(env);
  out.Set("name", device.link.name);
  out.Set("up", device.link.up);
  out.Set("mtu", device.link.mtu);
  out.Set("master", device.master);
  out.Set("addressRestored", device.address_restored);
  out.Set("carrierRestored", device.carrier_restored);
  out.Set("mtuRestored", device.mtu_restored);
  out.Set("routeAdded", device.route == RouteChange::kAdded);
  out.Set("routeReplaced", device.route == RouteChange::kReplaced);
  out.Set("overlayTakenBy", device.overlay_taken_by);
  out.Set("refused", check.refused);
  out.Set("refusedErrno", device.lookup.error);
  return out;
}

Napi::Object to_js_queue_sizes(Napi::Env env, const QueueSizes& sizes) {
  Napi::Object out = Napi::Object::New(env);
  out.Set("socketReceiveBytes", sizes.socket.receive_bytes);
  out.Set("socketSendBytes", sizes.socket.send_bytes);
  out.Set("tunPackets", sizes.tun_packets);
  return out;
}

Napi::Object to_js_counters(Napi::Env env, const char* name, const Direction& direction,
                            std::optional<uint64_t> queue_drops) {
  const ThreadCounters& counters = direction.counters();
  Napi::Object out = Napi::Object::New(env);
  const auto put = [&](const char* field, uint64_t value) {
    out.Set(field, Napi::Number::New(env, static_cast<double>(value)));
  };
  out.Set("direction", Napi::String::New(env, name));
  put("receivedPackets", counters.received_packets.get());
  put("receivedBytes", counters.received_bytes.get());
  put("sentPackets", counters.sent_packets.get());
  put("sentBytes", counters.sent_bytes.get());
  put("icmpTimeExceeded", counters.icmp_time_exceeded.get());
  put("icmpUnreachable", counters.icmp_unreachable.get());
  put("icmpSuppressed", counters.icmp_suppressed.get());
  put("readCalls", counters.read_calls.get());
  put("writeCalls", counters.write_calls.get());
  put("pollCalls", counters.poll_calls.get());
  put("ringBytes", counters.ring_bytes.get());
  put("ringCapacityBytes", direction.ring_capacity());
  put("ringHighWaterBytes", counters.ring_high_water.get());
  put("eventsLost", counters.events_lost.get());

  out.Set("queueDrops",
          queue_drops ? Napi::Number::New(env, static_cast<double>(*queue_drops)) : env.Null());

  Napi::Object drops = Napi::Object::New(env);
  for (size_t i = 0; i < kDropReasons; ++i)
    drops.Set(drop_reason_name(static_cast<DropReason>(i)),
              Napi::Number::New(env, static_cast<double>(counters.drops[i].get())));
  out.Set("drops", drops);

  Napi::Array sizes = Napi::Array::New(env, kBatchBuckets);
  for (uint32_t i = 0; i < kBatchBuckets; ++i)
    sizes.Set(i, Napi::Number::New(env, static_cast<double>(counters.batch_sizes[i].get())));
  out.Set("batchSizes", sizes);
  return out;
}

}  // namespace flannelette
