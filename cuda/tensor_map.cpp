#include "cuda/tensor_map.h"

#include <cuda_runtime_api.h>

#include <array>

#include "core/error.h"

namespace bolide {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

// Asked of the driver at run time, so that the program starts on machines without one.
Encode find_encode() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
  const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
#else
  const cudaError_t status = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &function, cudaEnableDefault, &found);
#endif
  check_cuda(status, "look-up of cuTensorMapEncodeTiled", {"start"});
  if (found != cudaDriverEntryPointSuccess || !function)
    throw Error("CUDA: the driver has no cuTensorMapEncodeTiled. Install a driver for CUDA 12 or later");
  return reinterpret_cast<Encode>(function);
}

}  // namespace

CUtensorMap swizzled_tensor_map(const void* data, std::initializer_list<TensorMapDimension> dimensions, const CudaSite& site) {
  static const Encode encode = find_encode();
  constexpr size_t kMost = 5;
  const size_t rank = dimensions.size();
  require_contract(rank >= 2 && rank <= kMost, "rank of a tensor map", site);
  std::array<cuuint64_t, kMost> sizes{}, strides{};
  std::array<cuuint32_t, kMost> boxes{}, steps{};
  size_t i = 0;
  for (const TensorMapDimension& d : dimensions) {
    sizes[i] = d.size;
    if (i > 0) strides[i - 1] = d.stride;
    boxes[i] = d.box;
    steps[i] = 1;
    ++i;
  }
  CUtensorMap map{};
  const CUresult status = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(rank), const_cast<void*>(data),
                                 sizes.data(), strides.data(), boxes.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
                                 CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (status != CUDA_SUCCESS)
    throw_contract(
        fmt::format("cuTensorMapEncodeTiled refuses a map of {} dimensions, CUresult {}", rank, static_cast<int>(status)).c_str(), site);
  return map;
}

}  // namespace bolide
