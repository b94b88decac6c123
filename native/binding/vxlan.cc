#include "binding/vxlan.h"

#include <string>
#include <vector>

#include "binding/convert.h"
#include "binding/node_api.h"
#include "sys/name_lock.h"
#include "sys/vxlan.h"

namespace flannelette {

namespace {

bool read_mac(const Napi::Value& value, MacAddress& out) {
  uint64_t number = 0;
  const bool whole = read_whole(value, 1, static_cast<double>(kMacMax), number);
  out = mac_of(number);
  return whole;
}

// Index, address in the overlay, MAC address, host.
bool read_vtep(const Napi::CallbackInfo& info, int& ifindex, Vtep& out) {
  if (read_whole(info[0], 1, kIndexMax, ifindex) &&
      read_whole(info[1], 1, kAddressMax, out.address) && read_mac(info[2], out.mac) &&
      read_whole(info[3], 1, kAddressMax, out.host))
    return true;
  throw_type(info.Env(), "expected an interface index, an address, a MAC address and a host");
  return false;
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

Napi::Value hold_name_of(const Napi::CallbackInfo& info) {
  std::string name;
  if (!read_text(info[0], "name", name)) return {};
  auto held = hold_name(name);
  if (held.ok()) return Napi::Number::New(info.Env(), held.value().release());
  throw_system(info.Env(), held.error());
  return {};
}

// Name, then numbers: VNI, port, local address, index of the external interface, MAC address, MTU,
// address; then GBP and learning.
Napi::Value make_vxlan_device(const Napi::CallbackInfo& info) {
  VxlanSpec spec;
  if (!read_text(info[0], "name", spec.name)) return {};
  if (!read_whole(info[1], 1, kVniMax, spec.vni) || !read_whole(info[2], 1, 65535, spec.port) ||
      !read_whole(info[3], 1, kAddressMax, spec.local) ||
      !read_whole(info[4], 1, kIndexMax, spec.underlay) || !read_mac(info[5], spec.mac) ||
      !read_whole(info[6], 68, 65535, spec.mtu) ||
      !read_whole(info[7], 1, kAddressMax, spec.address) || !info[8].IsBoolean() ||
      !info[9].IsBoolean()) {
    throw_type(info.Env(), "expected the numbers of a VXLAN device and two booleans");
    return {};
  }
  spec.gbp = info[8].As<Napi::Boolean>().Value();
  spec.learning = info[9].As<Napi::Boolean>().Value();
  auto made = make_vxlan(spec);
  if (made.ok()) return Napi::Number::New(info.Env(), made.value());
  throw_system(info.Env(), made.error());
  return {};
}

Napi::Value delete_vxlan_device(const Napi::CallbackInfo& info) {
  int index = 0;
  if (!read_whole(info[0], 1, kIndexMax, index)) {
    throw_type(info.Env(), "expected an interface index");
    return {};
  }
  if (auto refused = delete_device(index)) throw_system(info.Env(), *refused);
  return {};
}

Napi::Value put_vtep_of(const Napi::CallbackInfo& info) { return change_vtep(info, put_vtep); }

Napi::Value delete_vtep_of(const Napi::CallbackInfo& info) {
  return change_vtep(info, delete_vtep);
}

// Four numbers each: address, upper 16 and lower 32 bits of the MAC address, host.
Napi::Value list_vteps_of(const Napi::CallbackInfo& info) {
  int index = 0;
  if (!read_whole(info[0], 1, kIndexMax, index)) {
    throw_type(info.Env(), "expected an interface index");
    return {};
  }
  auto listed = list_vteps(index);
  if (!listed.ok()) {
    throw_system(info.Env(), listed.error());
    return {};
  }
  std::vector<uint32_t> numbers;
  for (const Vtep& vtep : listed.value()) {
    const uint64_t mac = number_of_mac(vtep.mac);
    for (const uint32_t number :
         {vtep.address, static_cast<uint32_t>(mac >> 32), static_cast<uint32_t>(mac), vtep.host})
      numbers.push_back(number);
  }
  return to_js_numbers(info.Env(), numbers);
}

}  // namespace flannelette
