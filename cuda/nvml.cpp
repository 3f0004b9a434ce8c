// The few functions used are declared here by hand: their binary interface is fixed by their names (a new version gets a new suffix), and
// so the build does not need the library's header.
#include "cuda/nvml.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <utility>

namespace bolide {
namespace {

constexpr int kSuccess = 0;
using Device = void*;

enum Clock : unsigned { sm = 1, memory = 2 };

struct Nvml {
  int (*init)() = nullptr;
  int (*driver_version)(char* text, unsigned length) = nullptr;
  int (*device_by_bus_id)(const char* bus_id, Device* device) = nullptr;
  int (*clock)(Device, unsigned which, unsigned* mhz) = nullptr;
  int (*max_clock)(Device, unsigned which, unsigned* mhz) = nullptr;
  int (*temperature)(Device, unsigned sensor, unsigned* celsius) = nullptr;
  int (*power)(Device, unsigned* milliwatts) = nullptr;
  int (*power_limit)(Device, unsigned* milliwatts) = nullptr;
  int (*throttle_reasons)(Device, unsigned long long* mask) = nullptr;
  bool usable = false;

  Nvml() {
    // Stays loaded to the end of the program.
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
    const auto load = [&](auto& function, const char* symbol) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, symbol));
    };
    load(init, "nvmlInit_v2");
    load(driver_version, "nvmlSystemGetDriverVersion");
    load(device_by_bus_id, "nvmlDeviceGetHandleByPciBusId_v2");
    load(clock, "nvmlDeviceGetClockInfo");
    load(max_clock, "nvmlDeviceGetMaxClockInfo");
    load(temperature, "nvmlDeviceGetTemperature");
    load(power, "nvmlDeviceGetPowerUsage");
    load(power_limit, "nvmlDeviceGetEnforcedPowerLimit");
    load(throttle_reasons, "nvmlDeviceGetCurrentClocksThrottleReasons");
    usable = init && device_by_bus_id && init() == kSuccess;
  }
};

const Nvml& nvml() {
  static const Nvml library;
  return library;
}

// 0 where the function is missing or fails.
template <class Function, class... Arguments>
unsigned ask(Function function, Arguments... arguments) {
  unsigned value = 0;
  return function && function(arguments..., &value) == kSuccess ? value : 0;
}

std::string throttle_text(unsigned long long mask) {
  // Bits of nvmlClocksThrottleReasons; idling (1), an application's own clocks (2) and a display's (0x100) hold nothing back here.
  constexpr std::pair<unsigned long long, const char*> kReasons[] = {
      {0x4, "power limit"},  {0x8, "hardware slowdown"},       {0x10, "clocks of other GPUs"},
      {0x20, "temperature"}, {0x40, "temperature (hardware)"}, {0x80, "power brake"}};
  std::string text;
  for (const auto& [bit, name] : kReasons) {
    if (mask & bit) text += (text.empty() ? "" : ", ") + std::string(name);
  }
  return text;
}

}  // namespace

DeviceState nvml_device_state(int device) {
  DeviceState state;
  const Nvml& library = nvml();
  char bus_id[32] = {};
  Device handle = nullptr;
  if (!library.usable || cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), device) != cudaSuccess ||
      library.device_by_bus_id(bus_id, &handle) != kSuccess) {
    cudaGetLastError();
    return state;
  }
  char version[96] = {};
  if (library.driver_version && library.driver_version(version, sizeof(version)) == kSuccess) state.driver = version;
  state.sm_clock_mhz = static_cast<int32_t>(ask(library.clock, handle, unsigned{Clock::sm}));
  state.memory_clock_mhz = static_cast<int32_t>(ask(library.clock, handle, unsigned{Clock::memory}));
  state.max_sm_clock_mhz = static_cast<int32_t>(ask(library.max_clock, handle, unsigned{Clock::sm}));
  state.max_memory_clock_mhz = static_cast<int32_t>(ask(library.max_clock, handle, unsigned{Clock::memory}));
  state.temperature_c = static_cast<int32_t>(ask(library.temperature, handle, 0u));
  state.power_watts = ask(library.power, handle) * 1e-3;
  state.power_limit_watts = ask(library.power_limit, handle) * 1e-3;
  unsigned long long mask = 0;
  if (library.throttle_reasons && library.throttle_reasons(handle, &mask) == kSuccess) state.throttled_by = throttle_text(mask);
  return state;
}

}  // namespace bolide
