// cuBLASLt, loaded when a CUDA backend is made: the binary starts, and runs on the CPU, on machines without the library. It is a large
// library, so that it is loaded beside what else a start has to do.
#pragma once

#include <cublasLt.h>

#include <future>
#include <map>
#include <memory>
#include <tuple>

#include "cuda/check.h"
#include "cuda/context.h"

namespace bolide {

// A product in cuBLASLt's column-major terms: D[n, m] = W^T X (+ D), W [k, n], X [k, m], D [n, m].
struct GemmShape {
  DType dtype;  // of W and X; D is f32
  int64_t n, m, k, w_stride, x_stride, d_stride;
  bool accumulate;
  int w_alignment, x_alignment, d_alignment;  // bytes, powers of two up to 256

  auto key() const {
    return std::make_tuple(dtype, n, m, k, w_stride, x_stride, d_stride, accumulate, w_alignment, x_alignment, d_alignment);
  }
};

class CublasLt {
 public:
  // Begins to load the library and to create its handle on `device`, which is the current one.
  explicit CublasLt(int device);
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Until it is loaded. Throws Error naming the library and where it was looked for.
  void ready() const { loaded_.get(); }

  // Enqueues the product, its algorithm found once per shape. False: cuBLASLt has no algorithm for this shape.
  bool gemm(const GemmShape& shape, const void* w, const void* x, float* d, cudaStream_t stream, const CudaSite& site);

 private:
  struct Library;
  struct Plan;
  Plan& plan(const GemmShape& shape, const CudaSite& site);

  std::unique_ptr<Library> library_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::shared_future<void> loaded_;
  std::map<decltype(GemmShape{}.key()), std::unique_ptr<Plan>> plans_;
};

}  // namespace bolide
