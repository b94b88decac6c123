// How the lower layers report failure: no exceptions, no abort, no text built from parts.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace flannelette {

// A refused operation. `number` is an errno value, `operation` what was asked of the kernel
// ("bind", "TUNSETIFF"), `detail` the object it was asked about ("10.168.0.2:8285").
struct Error {
  int number = 0;
  const char* operation = "";
  std::string detail;
};

// A value or an Error. Check ok() before either is taken.
template <typename T>
class Result {
 public:
  Result(T value) : state_(std::move(value)) {}
  Result(Error error) : state_(std::move(error)) {}

  bool ok() const { return std::holds_alternative<T>(state_); }
  T& value() { return *std::get_if<T>(&state_); }
  Error& error() { return *std::get_if<Error>(&state_); }

 private:
  std::variant<T, Error> state_;
};

// The outcome of an operation without a value: nothing, or an Error.
using Status = std::optional<Error>;

}  // namespace flannelette
