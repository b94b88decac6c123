// The addon's entry: what src/dataplane/native.ts declares, and nothing else.
#include <napi.h>

#include <array>
#include <string>
#include <vector>

#include "binding/convert.h"
#include "binding/engine_wrap.h"
#include "binding/fou.h"
#include "binding/kernel_routes.h"
#include "binding/node_api.h"
#include "binding/route_lookup.h"
#include "binding/vxlan.h"
#include "sys/exit_guard.h"
#include "sys/file_pages.h"
#include "sys/handover.h"
#include "sys/host_watch.h"
#include "sys/interfaces.h"
#include "sys/notify.h"
#include "sys/privileges.h"
#include "sys/probe.h"
#include "sys/scheduling.h"

namespace flannelette {

namespace {

// A service manager answers within a few milliseconds; nothing else runs on this thread meanwhile.
constexpr int kManagerWaitMs = 1000;

// State of one environment (the main thread or one worker).
struct Environment {
  EngineWrap::OpenEngines engines;
};

Napi::Value probe(const Napi::CallbackInfo& info) {
  auto probed = probe_features();
  if (!probed.ok()) {
    throw_system(info.Env(), probed.error());
    return {};
  }
  std::vector<Napi::Value> out;
  for (const Feature& feature : probed.value()) {
    Fields row(info.Env());
    row.add("name", feature.name);
    row.add("state", presence_name(feature.presence));
    row.add("since", feature.since);
    row.add("detail", feature.detail);
    out.push_back(row.object());
  }
  return to_js_array(info.Env(), out);
}

Napi::Value to_js_addresses(Napi::Env env, const std::vector<InterfaceAddress>& addresses) {
  std::vector<Napi::Value> out;
  for (const InterfaceAddress& address : addresses) {
    Fields entry(env);
    entry.add("address", address.address);
    entry.add("prefix", address.prefix);
    entry.add("permanent", address.permanent);
    entry.add("deprecated", address.deprecated);
    out.push_back(entry.object());
  }
  return to_js_array(env, out);
}

Napi::Value interfaces(const Napi::CallbackInfo& info) {
  auto listed = list_interfaces();
  if (!listed.ok()) {
    throw_system(info.Env(), listed.error());
    return {};
  }
  std::vector<Napi::Value> out;
  for (const Interface& interface : listed.value()) {
    Fields row(info.Env());
    row.add("name", interface.name);
    row.add("index", interface.index);
    row.add("mtu", interface.mtu);
    row.add("up", interface.up);
    row.add("loopback", interface.loopback);
    row.add("mac", interface.mac);
    row.add("addresses", to_js_addresses(info.Env(), interface.addresses));
    out.push_back(row.object());
  }
  return to_js_array(info.Env(), out);
}

Napi::Value cpus(const Napi::CallbackInfo& info) {
  auto listed = usable_cpus();
  if (!listed.ok()) {
    throw_system(info.Env(), listed.error());
    return {};
  }
  std::vector<Napi::Value> out;
  for (const unsigned cpu : listed.value()) out.push_back(Napi::Number::New(info.Env(), cpu));
  return to_js_array(info.Env(), out);
}

Napi::Value give_pages_back(const Napi::CallbackInfo& info) {
  auto given = give_file_pages_back();
  if (given.ok()) return Napi::Number::New(info.Env(), static_cast<double>(given.value()));
  throw_system(info.Env(), given.error());
  return {};
}

Napi::Value watch_host_changes(const Napi::CallbackInfo& info) {
  auto watched = watch_host();
  if (watched.ok()) return Napi::Number::New(info.Env(), watched.value());
  throw_system(info.Env(), watched.error());
  return {};
}

Napi::Value notify_manager(const Napi::CallbackInfo& info) {
  std::string path;
  std::string message;
  if (!read_text(info[0], "path", path) || !read_text(info[1], "message", message)) return {};
  if (const Status refused = notify(path, message); refused.has_value())
    throw_system(info.Env(), *refused);
  return {};
}

Napi::Value notify_manager_barrier(const Napi::CallbackInfo& info) {
  std::string path;
  if (!read_text(info[0], "path", path)) return {};
  if (const Status refused = notify_barrier(path, kManagerWaitMs); refused.has_value())
    throw_system(info.Env(), *refused);
  return {};
}

Napi::Value probe_store(const Napi::CallbackInfo& info) {
  std::string path;
  if (!read_text(info[0], "path", path)) return {};
  auto probed = probe_descriptor_store(path, kManagerWaitMs);
  if (!probed.ok()) {
    throw_system(info.Env(), probed.error());
    return {};
  }
  constexpr std::array<const char*, 3> kNames = {"none", "no-return", "usable"};
  return Napi::String::New(info.Env(), kNames[static_cast<size_t>(probed.value())]);
}

Napi::Value keep_fd_private(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!read_whole(info[0], 0, kIndexMax, fd)) {
    throw_type(info.Env(), "fd: expected a descriptor");
    return {};
  }
  if (const int number = keep_private(fd); number != 0)
    throw_system(info.Env(), {number, "fcntl", std::to_string(fd)});
  return {};
}

Napi::Value open_handover_at(const Napi::CallbackInfo& info) {
  std::string path;
  if (!read_text(info[0], "path", path)) return {};
  auto opened = open_handover(path);
  if (opened.ok()) return Napi::Number::New(info.Env(), opened.value().release());
  throw_system(info.Env(), opened.error());
  return {};
}

Napi::Value receive_handover_from(const Napi::CallbackInfo& info) {
  int fd = -1;
  if (!read_whole(info[0], 0, kIndexMax, fd)) {
    throw_type(info.Env(), "fd: expected a descriptor");
    return {};
  }
  auto received = receive_handover(fd);
  if (!received.ok()) {
    throw_system(info.Env(), received.error());
    return {};
  }
  std::vector<Napi::Value> fds;
  for (OwnedFd& descriptor : received.value().descriptors)
    fds.push_back(Napi::Number::New(info.Env(), descriptor.release()));
  Fields out(info.Env());
  out.add("message", received.value().message);
  out.add("descriptors", to_js_array(info.Env(), fds));
  return out.object();
}

Napi::Value guard_stop(const Napi::CallbackInfo& info) {
  std::vector<int> signals;
  SignalLimits limits;
  if (!read_signal_limits(info[0], signals, limits)) return {};
  if (auto error = guard_signals(signals, limits)) throw_system(info.Env(), *error);
  return {};
}

Napi::Value exit_process_within(const Napi::CallbackInfo& info) {
  int ms = 0;
  int code = 0;
  if (!read_exit(info[0], info[1], ms, code)) return {};
  if (auto error = exit_within(ms, code)) throw_system(info.Env(), *error);
  return {};
}

Napi::Value drop_process_privileges(const Napi::CallbackInfo& info) {
  FewerPrivileges fewer;
  if (!read_fewer_privileges(info[0], fewer)) return {};
  if (auto error = drop_privileges(fewer)) throw_system(info.Env(), *error);
  return {};
}

Napi::Value restart_process(const Napi::CallbackInfo& info) {
  Restart restart;
  if (read_restart(info[0], restart)) throw_system(info.Env(), restart_with_less(restart));
  return {};
}

// What the constructor of Engine takes; src/dataplane/limits.ts has the same.
Napi::Value limits(Napi::Env env) {
  Fields out(env);
  out.add("workersMax", 2 * kQueuePairsMax);
  out.add("sourcePortsMax", kSourcePortsMax);
  out.add("socketBufferBytesMax", kSocketBufferBytesMax);
  out.add("tunQueuePacketsMax", kTunQueuePacketsMax);
  out.add("ringBytesMin", kRingBytesMin);
  out.add("ringBytesMax", kRingBytesMax);
  out.add("pathMtuSecondsMax", kPathMtuSecondsMax);
  return out.object();
}

template <Napi::Value (*function)(const Napi::CallbackInfo&)>
napi_value entry(napi_env env, napi_callback_info info) {
  return function(Napi::CallbackInfo(env, info));
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  // Freed by the hook: finalizers of wraps that run later find their engine closed.
  auto* environment = new Environment();
  env.AddCleanupHook([environment] {
    const EngineWrap::OpenEngines open = environment->engines;
    for (EngineWrap* wrap : open) wrap->end();
  });
  env.SetInstanceData(environment);
  Fields surface(env);
  surface.add("Engine", EngineWrap::define(env, &environment->engines));
  surface.add("limits", limits(env));
  surface.add_function("probe", entry<probe>);
  surface.add_function("interfaces", entry<interfaces>);
  surface.add_function("waysTo", entry<ways_to_each>);
  surface.add_function("routes", entry<list_routes>);
  surface.add_function("putRoute", entry<put_route>);
  surface.add_function("deleteRoute", entry<delete_route>);
  surface.add_function("holdName", entry<hold_name_of>);
  surface.add_function("makeVxlan", entry<make_vxlan_device>);
  surface.add_function("deleteVxlan", entry<delete_vxlan_device>);
  surface.add_function("putVtep", entry<put_vtep_of>);
  surface.add_function("deleteVtep", entry<delete_vtep_of>);
  surface.add_function("vteps", entry<list_vteps_of>);
  surface.add_function("makeFou", entry<make_fou>);
  surface.add_function("restoreFou", entry<restore_fou>);
  surface.add_function("findFou", entry<find_fou>);
  surface.add_function("openFouPort", entry<open_fou_port_of>);
  surface.add_function("putFouOverlay", entry<put_fou_overlay_of>);
  surface.add_function("admitFou", entry<admit_fou>);
  surface.add_function("hasFouAdmission", entry<has_fou_admission_of>);
  surface.add_function("removeFou", entry<remove_fou_of>);
  surface.add_function("fouStatistics", entry<fou_statistics>);
  surface.add_function("cpus", entry<cpus>);
  surface.add_function("giveFilePagesBack", entry<give_pages_back>);
  surface.add_function("watchHost", entry<watch_host_changes>);
  surface.add_function("notify", entry<notify_manager>);
  surface.add_function("notifyBarrier", entry<notify_manager_barrier>);
  surface.add_function("probeStore", entry<probe_store>);
  surface.add_function("keepPrivate", entry<keep_fd_private>);
  surface.add_function("openHandover", entry<open_handover_at>);
  surface.add_function("receiveHandover", entry<receive_handover_from>);
  surface.add_function("guardSignals", entry<guard_stop>);
  surface.add_function("exitWithin", entry<exit_process_within>);
  surface.add_function("dropPrivileges", entry<drop_process_privileges>);
  surface.add_function("restartWithLess", entry<restart_process>);
  // Refused only where the environment ends while it loads the addon.
  (void)surface.define(exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(NODE_GYP_MODULE_NAME, init)

}  // namespace flannelette
