// The kernel's VXLAN device for JavaScript (sys/vxlan.h); src/dataplane/native.ts declares it.
#pragma once

#include <napi.h>

namespace flannelette {

// Name: a descriptor that holds it, to be closed by the caller.
Napi::Value hold_name_of(const Napi::CallbackInfo& info);
Napi::Value make_vxlan_device(const Napi::CallbackInfo& info);
Napi::Value delete_vxlan_device(const Napi::CallbackInfo& info);
Napi::Value put_vtep_of(const Napi::CallbackInfo& info);
Napi::Value delete_vtep_of(const Napi::CallbackInfo& info);
Napi::Value list_vteps_of(const Napi::CallbackInfo& info);

}  // namespace flannelette
