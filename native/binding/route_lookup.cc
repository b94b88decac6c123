#include "binding/route_lookup.h"

#include <vector>

#include "binding/node_api.h"
#include "sys/route_lookup.h"

namespace flannelette {

namespace {

bool is_address(const Napi::Value& value) {
  if (!value.IsNumber()) return false;
  const double number = value.As<Napi::Number>().DoubleValue();
  return number >= 0 && number <= 4294967295.0 &&
         number == static_cast<double>(static_cast<uint32_t>(number));
}

bool is_addresses(const Napi::Value& value) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint32_array;
}

}  // namespace

Napi::Value outgoing_interfaces_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!is_addresses(info[0]) || !is_address(info[1])) {
    throw_type(env, "expected a Uint32Array of destinations and a source address");
    return {};
  }
  const auto numbers = info[0].As<Napi::Uint32Array>();
  const std::vector<uint32_t> destinations(numbers.Data(),
                                           numbers.Data() + numbers.ElementLength());
  auto found = outgoing_interfaces(destinations, info[1].As<Napi::Number>().Uint32Value());
  if (!found.ok()) {
    throw_system(env, found.error());
    return {};
  }
  return to_js_numbers(env, found.value());
}

}  // namespace flannelette
