// The CUDA backend, and what this machine's driver says about its GPUs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace bolide {

struct CudaDevices {
  std::vector<DeviceInfo> devices;    // usable by this build; memory_free is 0: asking for it costs a context (0.3 s)
  std::vector<std::string> problems;  // why a device (or all of CUDA) cannot be used, one line each
};
// Never throws: a missing driver is an entry in `problems`.
CudaDevices cuda_devices();

// Throws Error naming what is missing (driver, device, compiled architecture) and what to do. That cuBLASLt is missing is what the first
// sync() or product of many rows throws, since it is loaded beside other work.
// activations: bf16, or f32, with which every product, norm and buffer is float32 (slower; for checks and for float32 accuracy).
std::unique_ptr<Backend> make_cuda_backend(int device, DType activations = DType::bf16);

// Test access: decode steps that a kernel may run one behind the other, how many launches they took, and how many were left out behind a
// stop id.
struct DecodeCounters {
  int64_t steps = 0, launches = 0, left_out = 0;
};
DecodeCounters cuda_decode_counters(const Backend& backend);

// "CUDA 13.0, compiled for sm_80 sm_90a".
std::string cuda_build_description();

}  // namespace bolide
