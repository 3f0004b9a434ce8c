// Clocks, temperature and power as NVIDIA's management library reports them. It is loaded at run time and asked for what it has: where
// it is missing or says nothing, a figure stays 0.
#pragma once

#include "backend/backend.h"

namespace bolide {

// `device` as the CUDA runtime numbers it. Never throws.
DeviceState nvml_device_state(int device);

}  // namespace bolide
