#include "binding/node_api.h"

#include <cstring>

#include "sys/errno_name.h"

namespace flannelette {

namespace {

constexpr auto kPlain =
    static_cast<napi_property_attributes>(napi_writable | napi_enumerable | napi_configurable);

using MakeError = napi_status (*)(napi_env, napi_value, napi_value, napi_value*);

// Refused: an exception is pending, or no JavaScript frame can catch this one.
void throw_error(Napi::Env env, MakeError make, const std::string& message,
                 const Fields* fields = nullptr) {
  napi_value error = nullptr;
  if (make(env, nullptr, Napi::String::New(env, message), &error) != napi_ok) return;
  if (fields != nullptr && !fields->define(error)) return;
  (void)napi_throw(env, error);
}

}  // namespace

bool get(const Napi::Object& from, const char* field, Napi::Value& out) {
  napi_value value = nullptr;
  if (napi_get_named_property(from.Env(), from, field, &value) != napi_ok) return false;
  out = Napi::Value(from.Env(), value);
  return true;
}

bool get(const Napi::Array& from, uint32_t index, Napi::Value& out) {
  napi_value value = nullptr;
  if (napi_get_element(from.Env(), from, index, &value) != napi_ok) return false;
  out = Napi::Value(from.Env(), value);
  return true;
}

void throw_type(Napi::Env env, const std::string& message) {
  throw_error(env, napi_create_type_error, message);
}

void throw_range(Napi::Env env, const std::string& message) {
  throw_error(env, napi_create_range_error, message);
}

void throw_system(Napi::Env env, const Error& error) {
  const std::string code = errno_name(error.number);
  std::string message = std::string(error.operation) + ": " + code;
  if (!error.detail.empty()) message += " (" + error.detail + ")";
  Fields fields(env);
  fields.add("code", code);
  fields.add("errno", error.number);
  fields.add("syscall", error.operation);
  throw_error(env, napi_create_error, message, &fields);
}

void Fields::add(const char* name, const Napi::Value& value) {
  descriptors_.push_back({name, nullptr, nullptr, nullptr, nullptr, value, kPlain, nullptr});
}

void Fields::add(const char* name, const std::string& value) {
  add(name, Napi::String::New(env_, value));
}

void Fields::add(const char* name, const char* value) { add(name, Napi::String::New(env_, value)); }

void Fields::add_function(const char* name, napi_callback function) {
  descriptors_.push_back({name, nullptr, function, nullptr, nullptr, nullptr, kPlain, nullptr});
}

bool Fields::define(napi_value object) const {
  return napi_define_properties(env_, object, descriptors_.size(), descriptors_.data()) == napi_ok;
}

Napi::Value Fields::object() const {
  napi_value out = nullptr;
  if (napi_create_object(env_, &out) != napi_ok || !define(out)) return {};
  return {env_, out};
}

Napi::Value Fields::define_class(const char* name, napi_callback construct, void* data) const {
  napi_value out = nullptr;
  if (napi_define_class(env_, name, NAPI_AUTO_LENGTH, construct, data, descriptors_.size(),
                        descriptors_.data(), &out) != napi_ok)
    return {};
  return {env_, out};
}

Napi::Value to_js_numbers(Napi::Env env, const std::vector<uint32_t>& numbers) {
  void* data = nullptr;
  napi_value buffer = nullptr;
  napi_value out = nullptr;
  const size_t bytes = numbers.size() * sizeof(uint32_t);
  // Refused where the environment ends or memory is short.
  if (napi_create_arraybuffer(env, bytes, &data, &buffer) != napi_ok) return {};
  if (bytes != 0) std::memcpy(data, numbers.data(), bytes);
  if (napi_create_typedarray(env, napi_uint32_array, numbers.size(), buffer, 0, &out) != napi_ok)
    return {};
  return {env, out};
}

Napi::Value to_js_array(Napi::Env env, const std::vector<Napi::Value>& elements) {
  napi_value out = nullptr;
  if (napi_create_array_with_length(env, elements.size(), &out) != napi_ok) return {};
  for (uint32_t i = 0; i < elements.size(); ++i)
    if (elements[i].IsEmpty() || napi_set_element(env, out, i, elements[i]) != napi_ok) return {};
  return {env, out};
}

}  // namespace flannelette
