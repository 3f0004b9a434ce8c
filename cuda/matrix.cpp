#include "cuda/matrix.h"

#include "core/error.h"

namespace bolide {

CudaMatrix::CudaMatrix(std::span<const TensorView> stacked_rows, int device, Staging& staging, Uploader& uploader) {
  BOLIDE_CHECK(!stacked_rows.empty());
  view_.dtype = stacked_rows.front().dtype;
  for (const TensorView& part : stacked_rows) {
    BOLIDE_CHECK(part.data && part.shape.size() == 2);
    if (part.dtype != view_.dtype || part.shape[1] != stacked_rows.front().shape[1]) {
      throw ModelError(fmt::format("matrices that are used together differ: {} {} and {} {}", dtype_name(view_.dtype),
                                   shape_text(stacked_rows.front().shape), dtype_name(part.dtype), shape_text(part.shape)));
    }
    view_.rows += part.shape[0];
  }
  view_.columns = stacked_rows.front().shape[1];
  view_.stride = padded_columns(view_.columns);
  const size_t row_bytes = static_cast<size_t>(view_.columns) * dtype_size(view_.dtype);
  const size_t stride_bytes = static_cast<size_t>(view_.stride) * dtype_size(view_.dtype);
  data_ = std::make_unique<CudaBuffer>(static_cast<size_t>(view_.rows) * stride_bytes, device, "weights");
  view_.data = data_->data();
  auto* to = static_cast<std::byte*>(data_->data());
  for (const TensorView& part : stacked_rows) {
    const auto rows = static_cast<size_t>(part.shape[0]);
    if (rows * row_bytes < Uploader::kWorthwhileBytes) {
      staging.copy_rows(to, stride_bytes, part.data, row_bytes, rows);
    } else {
      uploader_ = &uploader;
      uploader.rows(to, stride_bytes, part.data, row_bytes, rows);
    }
    to += static_cast<size_t>(part.shape[0]) * stride_bytes;
  }
}

CudaMatrix::~CudaMatrix() {
  if (uploader_) uploader_->wait();  // a load that failed half way: nothing may write to memory that is given back
}

MatrixView matrix_view(const Matrix& matrix) { return static_cast<const CudaMatrix&>(matrix).view(); }

}  // namespace bolide
