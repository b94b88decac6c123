// `waysTo` of src/dataplane/native.ts.
#pragma once

#include <napi.h>

namespace flannelette {

Napi::Value ways_to_each(const Napi::CallbackInfo& info);

}  // namespace flannelette
