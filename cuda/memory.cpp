#include "cuda/memory.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace bolide {
namespace {

constexpr CudaSite kSite{"memory"};

}  // namespace

std::string cuda_device_id(int device) { return fmt::format("cuda:{}", device); }

CudaBuffer::CudaBuffer(size_t bytes, int device, const char* purpose) : bytes_(bytes) {
  const cudaError_t status = cudaMalloc(&data_, std::max<size_t>(bytes, 1));
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // this error does not stick to later calls
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    constexpr double gib = 1024.0 * 1024.0 * 1024.0;
    throw MemoryError(
        fmt::format("does not fit on {}: {:.2f} GiB for {}, {:.2f} GiB of {:.2f} GiB free. Use a smaller --ctx-size or "
                    "--max-num-batched-tokens, free the device, or use --device cpu",
                    cuda_device_id(device), static_cast<double>(bytes) / gib, purpose, static_cast<double>(free) / gib,
                    static_cast<double>(total) / gib));
  }
  check_cuda(status, "cudaMalloc", kSite);
#ifndef NDEBUG
  check_cuda(cudaMemset(data_, 0xff, std::max<size_t>(bytes, 1)), "cudaMemset", kSite);
  // It runs beside the host and beside other streams, which must not be overtaken by it.
  check_cuda(cudaDeviceSynchronize(), "cudaMemset", kSite);
#endif
}

CudaBuffer::~CudaBuffer() { cudaFree(data_); }

Staging::Staging(cudaStream_t stream, size_t piece_bytes) : stream_(stream), piece_bytes_(piece_bytes) {
  for (Piece& piece : pieces_) {
    void* data = nullptr;
    check_cuda(cudaMallocHost(&data, piece_bytes_), "pinned host memory", kSite);
    piece.data = static_cast<std::byte*>(data);
    check_cuda(cudaEventCreateWithFlags(&piece.copied, cudaEventDisableTiming), "event", kSite);
  }
}

Staging::~Staging() {
  cudaStreamSynchronize(stream_);
  for (Piece& piece : pieces_) {
    if (piece.copied) cudaEventDestroy(piece.copied);
    cudaFreeHost(piece.data);
  }
}

Staging::Piece& Staging::next() {
  Piece& piece = pieces_[turn_++ % pieces_.size()];
  check_cuda(cudaEventSynchronize(piece.copied), "wait for an upload", kSite);
  return piece;
}

void Staging::send(Piece& piece, void* to, size_t bytes) {
  check_cuda(cudaMemcpyAsync(to, piece.data, bytes, cudaMemcpyHostToDevice, stream_), "upload", kSite);
  check_cuda(cudaEventRecord(piece.copied, stream_), "upload", kSite);
}

void Staging::copy(void* to, const void* from, size_t bytes) {
  for (size_t done = 0; done < bytes; done += piece_bytes_) {
    const size_t part = std::min(piece_bytes_, bytes - done);
    Piece& piece = next();
    std::memcpy(piece.data, static_cast<const std::byte*>(from) + done, part);
    send(piece, static_cast<std::byte*>(to) + done, part);
  }
}

void Staging::copy_rows(void* to, size_t stride_bytes, const void* from, size_t row_bytes, size_t rows) {
  if (stride_bytes == row_bytes) return copy(to, from, row_bytes * rows);
  const size_t per_piece = piece_bytes_ / stride_bytes;
  if (per_piece == 0) throw Error(fmt::format("CUDA: a matrix row of {} bytes is beyond what this backend uploads", row_bytes));
  for (size_t done = 0; done < rows; done += per_piece) {
    const size_t part = std::min(per_piece, rows - done);
    Piece& piece = next();
    for (size_t r = 0; r < part; ++r) {
      std::byte* row = piece.data + r * stride_bytes;
      std::memcpy(row, static_cast<const std::byte*>(from) + (done + r) * row_bytes, row_bytes);
      std::memset(row + row_bytes, 0, stride_bytes - row_bytes);
    }
    send(piece, static_cast<std::byte*>(to) + done * stride_bytes, part * stride_bytes);
  }
}

}  // namespace bolide
