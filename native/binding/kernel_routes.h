// The kernel's routes for JavaScript; see src/dataplane/native.ts.
#pragma once

#include <napi.h>

namespace flannelette {

Napi::Value list_routes(const Napi::CallbackInfo& info);
Napi::Value put_route(const Napi::CallbackInfo& info);
Napi::Value delete_route(const Napi::CallbackInfo& info);

}  // namespace flannelette
