#include "binding/kernel_routes.h"

#include <cstring>
#include <vector>

#include "binding/convert.h"
#include "binding/node_api.h"
#include "sys/kernel_routes.h"
#include "sys/netlink.h"

namespace flannelette {

namespace {

struct GatewayRoute {
  int ifindex = 0;
  Subnet destination;
  uint32_t gateway = 0;
  bool onlink = false;
};

// Network, prefix length, gateway, index of the interface, whether the gateway is taken to be on
// its link. Neither gateway nor index may be 0: to the kernel that is any, and the request might
// mean somebody else's route.
bool read_route(const Napi::CallbackInfo& info, GatewayRoute& out) {
  if (!read_whole(info[0], 0, kAddressMax, out.destination.network) ||
      !read_whole(info[1], 0, 32, out.destination.prefix) ||
      !read_whole(info[2], 1, kAddressMax, out.gateway) ||
      !read_whole(info[3], 1, kIndexMax, out.ifindex)) {
    throw_type(info.Env(), "expected a network, a prefix length, a gateway and an interface index");
    return false;
  }
  out.onlink = info[4].IsBoolean() && info[4].As<Napi::Boolean>().Value();
  return true;
}

template <typename Change>
Napi::Value change_route(const Napi::CallbackInfo& info, Change&& change) {
  GatewayRoute route;
  if (!read_route(info, route)) return {};
  auto netlink = Netlink::open();
  if (!netlink.ok()) {
    throw_system(info.Env(), netlink.error());
    return {};
  }
  if (auto refused = change(netlink.value(), route)) throw_system(info.Env(), *refused);
  return {};
}

}  // namespace

Napi::Value list_routes(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Subnet within;
  const bool all = info.Length() == 0;
  if (!all && (!read_whole(info[0], 0, kAddressMax, within.network) ||
               !read_whole(info[1], 0, 32, within.prefix))) {
    throw_type(env, "expected nothing, or a network and a prefix length");
    return {};
  }
  auto listed = all ? list_kernel_routes() : list_kernel_routes_within(within);
  if (!listed.ok()) {
    throw_system(env, listed.error());
    return {};
  }
  std::vector<uint32_t> numbers;
  numbers.reserve(listed.value().size() * 8);
  for (const KernelRoute& route : listed.value()) {
    for (const uint32_t number :
         {route.destination.network, static_cast<uint32_t>(route.destination.prefix), route.gateway,
          static_cast<uint32_t>(route.ifindex), route.metric, static_cast<uint32_t>(route.type),
          static_cast<uint32_t>(route.protocol), route.table})
      numbers.push_back(number);
  }
  return to_js_numbers(env, numbers);
}

Napi::Value put_route(const Napi::CallbackInfo& info) {
  return change_route(info, [](Netlink& netlink, const GatewayRoute& route) {
    return netlink.put_gateway_route(route.ifindex, route.destination, route.gateway, route.onlink);
  });
}

Napi::Value delete_route(const Napi::CallbackInfo& info) {
  return change_route(info, [](Netlink& netlink, const GatewayRoute& route) {
    return netlink.delete_gateway_route(route.ifindex, route.destination, route.gateway,
                                        route.onlink);
  });
}

}  // namespace flannelette
