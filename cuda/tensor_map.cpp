#include "cuda/tensor_map.h"

#include <array>

#include "cuda/driver.h"

namespace bolide {

CUtensorMap swizzled_tensor_map(const void* data, std::initializer_list<TensorMapDimension> dimensions, const CudaSite& site) {
  static const auto encode = driver_function<decltype(&cuTensorMapEncodeTiled)>("cuTensorMapEncodeTiled", {"start"});
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
