// Which backends this binary holds, and which one a --device value means. The only room with #if for CUDA.
#pragma once

#include <memory>
#include <string>
#include <utility>
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

// What an explicit "cuda:<index>" that cannot be served says: why, and what to do. `usable`: ids of the devices that could be asked for;
// `problems`: a line for each other one, or one for all of CUDA, as the CUDA backend finds them.
std::string cuda_refusal(int index, const std::vector<std::string>& usable, const std::vector<std::string>& problems);

std::vector<DeviceInfo> list_devices();
// Why GPUs that may be there cannot be used, a line each; empty where there is nothing to say.
std::vector<std::string> device_problems();
// Name and version of the libraries that the backends are built on.
std::vector<std::pair<std::string, std::string>> backend_libraries();
// Lines for --version: backends held, CUDA toolkit and compiled architectures, CPU features compiled and found.
std::vector<std::string> backend_descriptions();

}  // namespace bolide
