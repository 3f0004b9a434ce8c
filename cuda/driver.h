// Functions of the driver, asked for at run time, so that the program starts on machines without one.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include "core/error.h"
#include "cuda/check.h"

namespace bolide {

// Throws Error where the driver does not have it. F: the type of the function, as of CUDA 12.0.
template <class F>
F driver_function(const char* name, const CudaSite& site) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  const cudaError_t status = cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t status = cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found);
#endif
  check_cuda(status, "look-up of a driver function", site);
  if (found != cudaDriverEntryPointSuccess || !function)
    throw Error(fmt::format("CUDA: the driver has no {}. Install a driver for CUDA 12 or later", name));
  return reinterpret_cast<F>(function);
}

}  // namespace bolide
