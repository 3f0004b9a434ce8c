// A weight matrix on the device: the rows of several checkpoint tensors stacked, each row padded with zeros to a multiple of eight
// elements, so that every row starts at a multiple of 16 bytes.
#pragma once

#include <span>

#include "cuda/context.h"
#include "cuda/memory.h"
#include "cuda/upload.h"

namespace bolide {

class CudaMatrix final : public Matrix {
 public:
  // Sends the rows on their way: few by `staging`, many by `uploader`, which must outlive the matrix and whose finish() says that they
  // are there; what the views point to must live until then. Throws ModelError when the parts differ in dtype or width, MemoryError when
  // they do not fit.
  CudaMatrix(std::span<const TensorView> stacked_rows, int device, Staging& staging, Uploader& uploader);
  ~CudaMatrix() override;
  CudaMatrix(const CudaMatrix&) = delete;
  CudaMatrix& operator=(const CudaMatrix&) = delete;

  int64_t rows() const override { return view_.rows; }
  int64_t columns() const override { return view_.columns; }
  size_t bytes() const override { return static_cast<size_t>(view_.rows * view_.columns) * dtype_size(view_.dtype); }
  const MatrixView& view() const { return view_; }

 private:
  MatrixView view_{};
  std::unique_ptr<CudaBuffer> data_;
  Uploader* uploader_ = nullptr;  // that writes to data_
};

}  // namespace bolide
