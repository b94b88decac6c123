#include "binding/route_lookup.h"

#include <algorithm>
#include <vector>

#include "binding/convert.h"
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
    Napi::TypeError::New(env, "expected a Uint32Array of destinations and a source address")
        .ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const auto numbers = info[0].As<Napi::Uint32Array>();
  const std::vector<uint32_t> destinations(numbers.Data(),
                                           numbers.Data() + numbers.ElementLength());
  auto found = outgoing_interfaces(destinations, info[1].As<Napi::Number>().Uint32Value());
  if (!found.ok()) {
    to_js_error(env, found.error()).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  const std::vector<uint32_t>& indexes = found.value();
  auto out = Napi::Uint32Array::New(env, indexes.size());
  if (env.IsExceptionPending()) return env.Undefined();
  std::copy(indexes.begin(), indexes.end(), out.Data());
  return out;
}

}  // namespace flannelette
