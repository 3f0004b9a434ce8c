#include "cuda/upload.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace bolide {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;
constexpr size_t kMaxThreads = 8;
constexpr CudaSite kSite{"upload"};

// A thread's stream and its two pinned pieces: one is being filled while the device copies the other.
class Lane {
 public:
  Lane() {
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream", kSite);
    for (Half& half : halves_) {
      void* data = nullptr;
      check_cuda(cudaMallocHost(&data, kPieceBytes), "pinned host memory", kSite);
      half.data = static_cast<std::byte*>(data);
      check_cuda(cudaEventCreateWithFlags(&half.copied, cudaEventDisableTiming), "event", kSite);
    }
  }
  ~Lane() {
    if (stream_) cudaStreamSynchronize(stream_);
    for (Half& half : halves_) {
      if (half.copied) cudaEventDestroy(half.copied);
      cudaFreeHost(half.data);
    }
    if (stream_) cudaStreamDestroy(stream_);
  }
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Pinned memory that no copy reads any more.
  std::byte* next() {
    turn_ ^= 1;
    check_cuda(cudaEventSynchronize(halves_[turn_].copied), "wait for an upload", kSite);
    return halves_[turn_].data;
  }
  // Sends what next() returned.
  void send(void* to, size_t bytes) {
    check_cuda(cudaMemcpyAsync(to, halves_[turn_].data, bytes, cudaMemcpyHostToDevice, stream_), "upload", kSite);
    check_cuda(cudaEventRecord(halves_[turn_].copied, stream_), "upload", kSite);
  }
  void drain() { check_cuda(cudaStreamSynchronize(stream_), "upload", kSite); }

 private:
  struct Half {
    std::byte* data = nullptr;
    cudaEvent_t copied = nullptr;
  };
  cudaStream_t stream_ = nullptr;
  Half halves_[2];
  int turn_ = 0;
};

}  // namespace

void Uploader::rows(void* to, size_t stride_bytes, const void* from, size_t row_bytes, size_t rows) {
  if (stride_bytes == row_bytes) {  // no padding: one long row is cut where pieces end
    const size_t bytes = row_bytes * rows;
    const size_t whole = bytes / kPieceBytes;
    const auto* source = static_cast<const std::byte*>(from);
    auto* target = static_cast<std::byte*>(to);
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < whole; ++i) pieces_.push_back({target + i * kPieceBytes, source + i * kPieceBytes, kPieceBytes, kPieceBytes, 1});
    if (const size_t rest = bytes - whole * kPieceBytes; rest > 0)
      pieces_.push_back({target + whole * kPieceBytes, source + whole * kPieceBytes, rest, rest, 1});
  } else {
    const size_t per_piece = kPieceBytes / stride_bytes;
    if (per_piece == 0) throw Error(fmt::format("CUDA: a matrix row of {} bytes is beyond what this backend uploads", row_bytes));
    const std::lock_guard lock(mutex_);
    for (size_t done = 0; done < rows; done += per_piece) {
      pieces_.push_back({static_cast<std::byte*>(to) + done * stride_bytes, static_cast<const std::byte*>(from) + done * row_bytes,
                         stride_bytes, row_bytes, std::min(per_piece, rows - done)});
    }
  }
  const std::lock_guard lock(mutex_);
  busy_ = true;
  const size_t most = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxThreads);
  // Pinned memory takes long to get: another thread only for another waiting piece.
  while (threads_.size() < most && threads_.size() < pieces_.size()) threads_.emplace_back([this] { work(); });
  queued_.notify_all();
}

bool Uploader::take(Piece& piece) {
  std::unique_lock lock(mutex_);
  queued_.wait(lock, [this] { return !pieces_.empty() || ending_; });
  if (pieces_.empty() || error_) return false;
  piece = pieces_.front();
  pieces_.pop_front();
  return true;
}

void Uploader::run_pieces() {
  check_cuda(cudaSetDevice(device_), "cudaSetDevice", kSite);
  Lane lane;
  for (Piece piece; take(piece);) {
    std::byte* pinned = lane.next();
    if (piece.stride_bytes == piece.row_bytes) {
      std::memcpy(pinned, piece.from, piece.row_bytes * piece.rows);
    } else {
      for (size_t r = 0; r < piece.rows; ++r) {
        std::byte* row = pinned + r * piece.stride_bytes;
        std::memcpy(row, piece.from + r * piece.row_bytes, piece.row_bytes);
        std::memset(row + piece.row_bytes, 0, piece.stride_bytes - piece.row_bytes);
      }
    }
    lane.send(piece.to, piece.stride_bytes * piece.rows);
  }
  lane.drain();
}

void Uploader::work() {
  try {
    run_pieces();
  } catch (...) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void Uploader::wait() noexcept {
  if (!busy_) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  queued_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  pieces_.clear();
  ending_ = false;
  busy_ = false;
}

void Uploader::finish() {
  if (!busy_ && !error_) return;
  wait();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace bolide
