// Which backends this binary holds, and which one a --device value means. The only room with #if for CUDA.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace bolide {

struct BackendRequest {
  std::string device = "auto";  // auto | cpu | cuda | cuda:N
  int threads = 0;              // CPU: 0 = default_threads()
  bool bf16_products = false;   // CPU: CpuOptions::bf16_products; UsageError on another device
};

struct ChosenBackend {
  std::unique_ptr<Backend> backend;
  std::string reason;  // "cpu: this build holds no CUDA backend"
};
// Explicit devices never fall back: Error says what is missing and what to do. Unknown names: UsageError.
ChosenBackend choose_backend(const BackendRequest& request);

std::vector<DeviceInfo> list_devices();
// Lines for --version: backends held, CUDA toolkit and compiled architectures, CPU features compiled and found.
std::vector<std::string> backend_descriptions();

}  // namespace bolide
