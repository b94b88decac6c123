#include "binding/vxlan.h"

#include <limits>
#include <string>
#include <vector>

#include "binding/convert.h"
#include "binding/node_api.h"
#include "sys/vxlan.h"

namespace flannelette {

namespace {

constexpr double kAddressMax = std::numeric_limits<uint32_t>::max();
constexpr double kMacMax = 0xffffffffffff;
constexpr double kIndexMax = std::numeric_limits<int>::max();

bool read_integer(const Napi::Value& value, double least, double most, uint64_t& out) {
  if (!value.IsNumber()) return false;
  const double number = value.As<Napi::Number>().DoubleValue();
  if (!(number >= least && number <= most)) return false;
  out = static_cast<uint64_t>(number);
  return static_cast<double>(out) == number;
}

MacAddress mac_of(uint64_t number) {
  MacAddress out;
  for (size_t i = 0; i < out.size(); ++i)
    out[i] = static_cast<uint8_t>(number >> (8 * (out.size() - 1 - i)));
  return out;
}

// Index, address in the overlay, MAC address, host.
bool read_vtep(const Napi::CallbackInfo& info, int& ifindex, Vtep& out) {
  uint64_t index = 0;
  uint64_t address = 0;
  uint64_t mac = 0;
  uint64_t host = 0;
  if (!read_integer(info[0], 1, kIndexMax, index) ||
      !read_integer(info[1], 1, kAddressMax, address) || !read_integer(info[2], 1, kMacMax, mac) ||
      !read_integer(info[3], 1, kAddressMax, host)) {
    throw_type(info.Env(), "expected an interface index, an address, a MAC address and a host");
    return false;
  }
  ifindex = static_cast<int>(index);
  out = {static_cast<uint32_t>(address), mac_of(mac), static_cast<uint32_t>(host)};
  return true;
}

template <typename Change>
Napi::Value change_vtep(const Napi::CallbackInfo& info, Change&& change) {
  int ifindex = 0;
  Vtep vtep;
  if (!read_vtep(info, ifindex, vtep)) return {};
  if (auto refused = change(ifindex, vtep)) throw_system(info.Env(), *refused);
  return {};
}

}  // namespace

// Name, then numbers: VNI, port, local address, index of the external interface, MAC address, MTU,
// address; then GBP and learning.
Napi::Value make_vxlan_device(const Napi::CallbackInfo& info) {
  VxlanSpec spec;
  if (!read_text(info[0], "name", spec.name)) return {};
  uint64_t vni = 0;
  uint64_t port = 0;
  uint64_t local = 0;
  uint64_t underlay = 0;
  uint64_t mac = 0;
  uint64_t mtu = 0;
  uint64_t address = 0;
  if (!read_integer(info[1], 1, kVniMax, vni) || !read_integer(info[2], 1, 65535, port) ||
      !read_integer(info[3], 1, kAddressMax, local) ||
      !read_integer(info[4], 1, kIndexMax, underlay) || !read_integer(info[5], 1, kMacMax, mac) ||
      !read_integer(info[6], 68, 65535, mtu) || !read_integer(info[7], 1, kAddressMax, address) ||
      !info[8].IsBoolean() || !info[9].IsBoolean()) {
    throw_type(info.Env(), "expected the numbers of a VXLAN device and two booleans");
    return {};
  }
  spec.vni = static_cast<uint32_t>(vni);
  spec.port = static_cast<uint16_t>(port);
  spec.local = static_cast<uint32_t>(local);
  spec.underlay = static_cast<int>(underlay);
  spec.mac = mac_of(mac);
  spec.mtu = static_cast<uint32_t>(mtu);
  spec.address = static_cast<uint32_t>(address);
  spec.gbp = info[8].As<Napi::Boolean>().Value();
  spec.learning = info[9].As<Napi::Boolean>().Value();
  auto made = make_vxlan(spec);
  if (made.ok()) return Napi::Number::New(info.Env(), made.value());
  throw_system(info.Env(), made.error());
  return {};
}

Napi::Value delete_vxlan_device(const Napi::CallbackInfo& info) {
  uint64_t index = 0;
  if (!read_integer(info[0], 1, kIndexMax, index)) {
    throw_type(info.Env(), "expected an interface index");
    return {};
  }
  if (auto refused = delete_device(static_cast<int>(index))) throw_system(info.Env(), *refused);
  return {};
}

Napi::Value put_vtep_of(const Napi::CallbackInfo& info) { return change_vtep(info, put_vtep); }

Napi::Value delete_vtep_of(const Napi::CallbackInfo& info) {
  return change_vtep(info, delete_vtep);
}

// Four numbers each: address, upper 16 and lower 32 bits of the MAC address, host.
Napi::Value list_vteps_of(const Napi::CallbackInfo& info) {
  uint64_t index = 0;
  if (!read_integer(info[0], 1, kIndexMax, index)) {
    throw_type(info.Env(), "expected an interface index");
    return {};
  }
  auto listed = list_vteps(static_cast<int>(index));
  if (!listed.ok()) {
    throw_system(info.Env(), listed.error());
    return {};
  }
  std::vector<uint32_t> numbers;
  for (const Vtep& vtep : listed.value()) {
    uint64_t mac = 0;
    for (const uint8_t byte : vtep.mac) mac = mac << 8 | byte;
    for (const uint32_t number :
         {vtep.address, static_cast<uint32_t>(mac >> 32), static_cast<uint32_t>(mac), vtep.host})
      numbers.push_back(number);
  }
  return to_js_numbers(info.Env(), numbers);
}

}  // namespace flannelette
