// CpuMatrix: stacked rows of checkpoint tensors, where they are mapped.
#include <algorithm>

#include "core/error.h"
#include "cpu/kernels.h"

namespace bolide {

CpuMatrix::CpuMatrix(std::span<const TensorView> stacked_rows) {
  BOLIDE_CHECK(!stacked_rows.empty());
  for (const TensorView& view : stacked_rows) {
    BOLIDE_CHECK(view && view.shape.size() == 2 && view.shape[0] >= 0 && view.shape[1] >= 0);
    BOLIDE_CHECK(view.dtype != DType::f8);  // of the KV cache alone
    if (parts_.empty()) {
      columns_ = view.shape[1];
      dtype_ = view.dtype;
    }
    if (view.shape[1] != columns_ || view.dtype != dtype_) {
      throw ModelError(
          fmt::format("tensors {} {} and {} {} are used as one matrix, but differ in width or dtype; convert the checkpoint to one dtype",
                      shape_text(stacked_rows[0].shape), dtype_name(dtype_), shape_text(view.shape), dtype_name(view.dtype)));
    }
    parts_.push_back({view.data, rows_, view.shape[0]});
    rows_ += view.shape[0];
  }
}

const void* CpuMatrix::row(int64_t index) const {
  BOLIDE_CHECK(index >= 0 && index < rows_);
  const auto after = std::upper_bound(parts_.begin(), parts_.end(), index, [](int64_t i, const Part& part) { return i < part.first_row; });
  const Part& part = *(after - 1);
  return static_cast<const std::byte*>(part.data) + static_cast<size_t>((index - part.first_row) * columns_) * dtype_size(dtype_);
}

}  // namespace bolide
