// Errors of CUDA calls as exceptions. C++17, without formatting headers, so that .cu files include it cheaply.
#pragma once

#include <cuda_runtime_api.h>

namespace bolide {

// Where a call was made from: "norm_qkv", layer 3. layer < 0: not within a layer.
struct CudaSite {
  const char* op;
  int layer = -1;
};

// Throws Error "CUDA: <what> in <op>, layer <layer>: <cuda's text>".
[[noreturn]] void throw_cuda(cudaError_t status, const char* what, const CudaSite& site);

inline void check_cuda(cudaError_t status, const char* what, const CudaSite& site) {
  if (status != cudaSuccess) throw_cuda(status, what, site);
}

// Throws an internal error: a room above broke the contract of backend/ops.h.
[[noreturn]] void throw_contract(const char* what, const CudaSite& site);
inline void require_contract(bool holds, const char* what, const CudaSite& site) {
  if (!holds) throw_contract(what, site);
}

}  // namespace bolide
