// The kernel's FOU tunnel for JavaScript (sys/fou.h, sys/fou_admission.h); src/dataplane/native.ts
// declares it.
#pragma once

#include <napi.h>

namespace flannelette {

Napi::Value make_fou(const Napi::CallbackInfo& info);
Napi::Value restore_fou(const Napi::CallbackInfo& info);
Napi::Value find_fou(const Napi::CallbackInfo& info);
Napi::Value open_fou_port_of(const Napi::CallbackInfo& info);
Napi::Value put_fou_overlay_of(const Napi::CallbackInfo& info);
Napi::Value admit_fou(const Napi::CallbackInfo& info);
Napi::Value has_fou_admission_of(const Napi::CallbackInfo& info);
Napi::Value remove_fou_of(const Napi::CallbackInfo& info);
Napi::Value fou_statistics(const Napi::CallbackInfo& info);

}  // namespace flannelette
