// `outgoingInterfaces` of src/dataplane/native.ts.
#pragma once

#include <napi.h>

namespace flannelette {

Napi::Value outgoing_interfaces_of(const Napi::CallbackInfo& info);

}  // namespace flannelette
