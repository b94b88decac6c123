// The Node-API calls that may be refused, each with its answer.
//
// Two things refuse a call: an exception that foreign code threw (a getter, a setter, a Proxy), and
// the end of the environment (worker.terminate, process.exit in a worker), which can come between
// any two calls. After either one nothing is left to do but to return to JavaScript: an exception
// that is pending is thrown by the return, and an environment that ends runs no more JavaScript.
// So nothing here throws because a call was refused, and nothing here ends the process.
//
// Calls that only make a primitive, read arguments or look at a value's type are never refused and
// are made directly. What else node-addon-api has makes an exception of a refusal and ends the
// process where none can be thrown, so it is not used here: no Object::Set, no Function::New, no
// ObjectWrap.
#pragma once

#include <napi.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "core/result.h"

namespace flannelette {

// A property of an object, or an element of an array, that JavaScript made; false when reading it
// was refused.
bool get(const Napi::Object& from, const char* field, Napi::Value& out);
bool get(const Napi::Array& from, uint32_t index, Napi::Value& out);

// Throws, unless an exception is pending already or the environment ends.
void throw_type(Napi::Env env, const std::string& message);
void throw_range(Napi::Env env, const std::string& message);
// An Error with `code` (errno name), `errno` (positive) and `syscall`.
void throw_system(Napi::Env env, const Error& error);

// An object made in one call out of all its fields. They are its own and plain: no setter of
// Object.prototype is asked.
class Fields {
 public:
  explicit Fields(Napi::Env env) : env_(env) {}

  void add(const char* name, const Napi::Value& value);
  void add(const char* name, const std::string& value);
  void add(const char* name, const char* value);
  // Numbers; exact up to 2^53.
  template <typename T>
  requires std::is_arithmetic_v<T>
  void add(const char* name, T value) {
    if constexpr (std::is_same_v<T, bool>) {
      add(name, Napi::Boolean::New(env_, value));
    } else {
      add(name, Napi::Number::New(env_, static_cast<double>(value)));
    }
  }

  void add_function(const char* name, napi_callback function);

  // Puts the fields into an object that is there; false when that was refused.
  bool define(napi_value object) const;
  // Empty, which JavaScript sees as undefined, when making it was refused.
  Napi::Value object() const;
  // A class with the functions as its methods. `data` is handed to its constructor.
  Napi::Value define_class(const char* name, napi_callback construct, void* data) const;

 private:
  Napi::Env env_;
  std::vector<napi_property_descriptor> descriptors_;
};

// A Uint32Array; empty when making it was refused.
Napi::Value to_js_numbers(Napi::Env env, const std::vector<uint32_t>& numbers);

// Empty when making it, or one of its elements, was refused.
Napi::Value to_js_array(Napi::Env env, const std::vector<Napi::Value>& elements);

}  // namespace flannelette
