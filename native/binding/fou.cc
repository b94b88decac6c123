#include "binding/fou.h"

#include <string>
#include <vector>

#include "binding/convert.h"
#include "binding/node_api.h"
#include "sys/fou.h"
#include "sys/fou_admission.h"

namespace flannelette {

namespace {

// Throws what was refused.
template <typename T>
Napi::Value answer(Napi::Env env, Result<T> result) {
  if (result.ok()) return Napi::Value::From(env, result.value());
  throw_system(env, result.error());
  return {};
}

// Address and port, as the arguments from `at` on.
bool read_end(const Napi::CallbackInfo& info, size_t at, FouEnd& out) {
  if (read_whole(info[at], 0, kAddressMax, out.local) &&
      read_whole(info[at + 1], 1, 65535, out.port))
    return true;
  throw_type(info.Env(), "expected an address and a port");
  return false;
}

bool read_index(const Napi::CallbackInfo& info, int& out) {
  if (read_whole(info[0], 1, kIndexMax, out)) return true;
  throw_type(info.Env(), "expected an interface index");
  return false;
}

bool read_subnet(const Napi::CallbackInfo& info, size_t at, Subnet& out) {
  if (read_whole(info[at], 0, kAddressMax, out.network) &&
      read_whole(info[at + 1], 0, 32, out.prefix))
    return true;
  throw_type(info.Env(), "expected a network and a prefix length");
  return false;
}

// Index, address, port, own network and prefix length, hosts.
bool read_admission(const Napi::CallbackInfo& info, FouAdmission& out, std::vector<Route>& hosts) {
  if (!read_index(info, out.ifindex) || !read_end(info, 1, out.end) ||
      !read_subnet(info, 3, out.own) || !read_route_changes(info[5], hosts))
    return false;
  out.hosts = hosts;
  return true;
}

}  // namespace

// Name, address, port, source port.
Napi::Value make_fou(const Napi::CallbackInfo& info) {
  FouDevice device;
  if (!read_text(info[0], "name", device.name) || !read_end(info, 1, device.end)) return {};
  if (!read_whole(info[3], 0, 65535, device.source_port)) {
    throw_type(info.Env(), "expected a source port");
    return {};
  }
  return answer(info.Env(), make_fou_device(device));
}

// Index, address, MTU.
Napi::Value restore_fou(const Napi::CallbackInfo& info) {
  int index = 0;
  uint32_t address = 0;
  uint32_t mtu = 0;
  if (!read_index(info, index)) return {};
  if (!read_whole(info[1], 1, kAddressMax, address) || !read_whole(info[2], 68, 65535, mtu)) {
    throw_type(info.Env(), "expected an address and an MTU");
    return {};
  }
  return answer(info.Env(), restore_fou_device(index, address, mtu));
}

Napi::Value find_fou(const Napi::CallbackInfo& info) {
  FouEnd end;
  return read_end(info, 0, end) ? answer(info.Env(), find_fou_device(end)) : Napi::Value();
}

Napi::Value open_fou_port_of(const Napi::CallbackInfo& info) {
  FouEnd end;
  return read_end(info, 0, end) ? answer(info.Env(), open_fou_port(end)) : Napi::Value();
}

Napi::Value put_fou_overlay_of(const Napi::CallbackInfo& info) {
  Subnet overlay;
  return read_subnet(info, 0, overlay) ? answer(info.Env(), put_fou_overlay(overlay))
                                       : Napi::Value();
}

Napi::Value admit_fou(const Napi::CallbackInfo& info) {
  FouAdmission admission;
  std::vector<Route> hosts;
  if (!read_admission(info, admission, hosts)) return {};
  if (auto refused = put_fou_admission(admission)) throw_system(info.Env(), *refused);
  return {};
}

Napi::Value has_fou_admission_of(const Napi::CallbackInfo& info) {
  FouAdmission admission;
  std::vector<Route> hosts;
  if (!read_admission(info, admission, hosts)) return {};
  return answer(info.Env(), has_fou_admission(admission));
}

Napi::Value remove_fou_of(const Napi::CallbackInfo& info) {
  FouEnd end;
  if (!read_end(info, 0, end)) return {};
  auto refused = remove_fou(end);
  // Last, and not there where nothing is checked or the kernel has no nf_tables.
  (void)remove_fou_admission(end);
  if (refused) throw_system(info.Env(), *refused);
  return {};
}

// Packets and bytes received, packets and bytes sent.
Napi::Value fou_statistics(const Napi::CallbackInfo& info) {
  int index = 0;
  if (!read_index(info, index)) return {};
  auto read = read_fou_statistics(index);
  if (!read.ok()) {
    throw_system(info.Env(), read.error());
    return {};
  }
  const FouStatistics& now = read.value();
  Fields out(info.Env());
  out.add("receivedPackets", static_cast<double>(now.received_packets));
  out.add("receivedBytes", static_cast<double>(now.received_bytes));
  out.add("sentPackets", static_cast<double>(now.sent_packets));
  out.add("sentBytes", static_cast<double>(now.sent_bytes));
  return out.object();
}

}  // namespace flannelette
