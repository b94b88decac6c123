#include "binding/route_lookup.h"

#include <vector>

#include "binding/convert.h"
#include "binding/node_api.h"
#include "sys/route_lookup.h"

namespace flannelette {

namespace {

bool is_addresses(const Napi::Value& value) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint32_array;
}

}  // namespace

Napi::Value ways_to_each(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  uint32_t source = 0;
  if (!is_addresses(info[0]) || !read_whole(info[1], 0, kAddressMax, source)) {
    throw_type(env, "expected a Uint32Array of destinations and a source address");
    return {};
  }
  const auto given = info[0].As<Napi::Uint32Array>();
  const std::vector<uint32_t> destinations(given.Data(), given.Data() + given.ElementLength());
  auto found = ways_to(destinations, source);
  if (!found.ok()) {
    throw_system(env, found.error());
    return {};
  }
  std::vector<uint32_t> numbers;
  numbers.reserve(2 * found.value().size());
  for (const Way& way : found.value()) {
    numbers.push_back(way.ifindex);
    numbers.push_back(way.table);
  }
  return to_js_numbers(env, numbers);
}

}  // namespace flannelette
