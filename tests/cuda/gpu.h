// Tests of this folder that need a GPU begin with gpu(): without one they say so, by name, and end.
#pragma once

#include <cstdio>
#include <memory>

#include "cuda/cuda_backend.h"

namespace bolide::cuda_test {

// The first usable device, or null after a line "skipped: NAME (reason)".
inline std::unique_ptr<Backend> gpu(const char* name, DType activations = DType::bf16) {
  const CudaDevices found = cuda_devices();
  if (found.devices.empty()) {
    std::printf("skipped: %s (%s)\n", name, found.problems.empty() ? "no CUDA device" : found.problems.front().c_str());
    return nullptr;
  }
  return make_cuda_backend(std::stoi(found.devices.front().id.substr(5)), activations);
}

}  // namespace bolide::cuda_test
