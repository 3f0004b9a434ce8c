// The one way kernels are launched: every error is checked with its op and layer, and shared memory beyond the default limit and launch
// attributes are opted into here.
#pragma once

#include <cuda_runtime.h>

#include "cuda/check.h"

namespace bolide {

constexpr size_t kDefaultSharedLimit = 48 * 1024;

struct LaunchOptions {
  // The kernel keeps the rules of device/dependent.cuh and may start before the kernels in front of it have ended.
  bool dependent = false;
  int cluster = 1;  // blocks along x that share their shared memory; divides grid.x. More than 1 needs compute capability 9.0
  bool cooperative = false;  // all blocks are resident at once, or the launch fails
};

template <class... Parameters, class... Arguments>
void launch_with(const LaunchOptions& options, const CudaSite& site, void (*kernel)(Parameters...), dim3 grid, dim3 block,
                 size_t shared_bytes, cudaStream_t stream, const Arguments&... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > kDefaultSharedLimit) {
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               "shared memory opt-in", site);
  }
  if (options.dependent) {
    // Kernels that overlap share a multiprocessor, whose split between L1 and shared memory must suit them all: it cannot change while one
    // of them runs.
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributePreferredSharedMemoryCarveout,
                                    cudaSharedmemCarveoutMaxShared),
               "shared memory carveout", site);
  }
  cudaLaunchAttribute attributes[3] = {};
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  if (options.dependent) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
  }
  if (options.cooperative) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
  }
  if (options.cluster > 1) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(options.cluster);
    attribute.val.clusterDim.y = 1;
    attribute.val.clusterDim.z = 1;
  }
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "kernel launch", site);
}

template <class... Parameters, class... Arguments>
void launch(const CudaSite& site, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            const Arguments&... arguments) {
  launch_with({}, site, kernel, grid, block, shared_bytes, stream, arguments...);
}

}  // namespace bolide
