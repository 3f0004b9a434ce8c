// Weights on their way to the device: several threads copy pieces of the mapped checkpoint into pinned memory, each followed by the
// device's copy engine. One thread alone reads a mapped file far slower than the bus takes it, above all when every page of the mapping
// is touched for the first time.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "cuda/check.h"

namespace bolide {

class Uploader {
 public:
  // Copies of fewer bytes are not worth the threads.
  static constexpr size_t kWorthwhileBytes = size_t{1} << 20;

  explicit Uploader(int device) : device_(device) {}
  ~Uploader() { wait(); }
  Uploader(const Uploader&) = delete;
  Uploader& operator=(const Uploader&) = delete;

  // Queues rows of `row_bytes` that become rows of `stride_bytes` >= row_bytes on the device, the rest zero. Returns at once: what
  // `from` and `to` point to must live until wait() or finish() returns.
  void rows(void* to, size_t stride_bytes, const void* from, size_t row_bytes, size_t rows);
  // Until everything queued is on the device. Threads and pinned memory are given back then.
  void wait() noexcept;
  // The same, then throws the first error there was. Costs nothing when nothing was queued.
  void finish();

 private:
  struct Piece {
    std::byte* to;
    const std::byte* from;
    size_t stride_bytes, row_bytes, rows;
  };
  void work();
  void run_pieces();
  bool take(Piece& piece);

  int device_;
  std::atomic<bool> busy_{false};  // there are threads; read by finish() without the lock
  std::mutex mutex_;
  std::condition_variable queued_;
  std::deque<Piece> pieces_;
  bool ending_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

}  // namespace bolide
