// Device memory and the way bytes get there from the host.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstddef>

#include "backend/backend.h"
#include "cuda/check.h"

namespace bolide {

// "cuda:0"
std::string cuda_device_id(int device);

// One cudaMalloc. Throws MemoryError naming the bytes asked for, the bytes free and what they were for.
// Fresh bytes are NaN in debug builds.
class CudaBuffer final : public Buffer {
 public:
  CudaBuffer(size_t bytes, int device, const char* purpose);
  ~CudaBuffer() override;
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;
  void* data() override { return data_; }
  size_t bytes() const override { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Copies host memory to the device through a ring of pinned pieces: the caller's memory is free for reuse when a call returns, and
// the copy engine works on one piece while the host fills the next.
class Staging {
 public:
  static constexpr size_t kPieceBytes = size_t{4} << 20;
  explicit Staging(cudaStream_t stream, size_t piece_bytes = kPieceBytes);
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  void copy(void* to, const void* from, size_t bytes);
  // Rows of `row_bytes` become rows of `stride_bytes` >= row_bytes on the device, the rest zero.
  void copy_rows(void* to, size_t stride_bytes, const void* from, size_t row_bytes, size_t rows);

 private:
  struct Piece {
    std::byte* data = nullptr;
    cudaEvent_t copied = nullptr;
  };
  // A piece that no copy reads any more.
  Piece& next();
  void send(Piece& piece, void* to, size_t bytes);

  cudaStream_t stream_;
  size_t piece_bytes_;
  std::array<Piece, 4> pieces_;
  size_t turn_ = 0;
};

}  // namespace bolide
