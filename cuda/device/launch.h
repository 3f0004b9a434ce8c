// The one way kernels are launched: every error is checked with its op and layer, and shared memory beyond the default limit is
// opted into here. Launch attributes (programmatic dependent launch, clusters) belong here too.
#pragma once

#include <cuda_runtime.h>

#include "cuda/check.h"

namespace bolide {

constexpr size_t kDefaultSharedLimit = 48 * 1024;

template <class... Parameters, class... Arguments>
void launch(const CudaSite& site, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > kDefaultSharedLimit) {
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               "shared memory opt-in", site);
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "kernel launch", site);
}

}  // namespace bolide
