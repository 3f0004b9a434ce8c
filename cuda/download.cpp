#include "cuda/download.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda/check.h"

namespace bolide {
namespace {

constexpr CudaSite kSite{"download"};

}  // namespace

CudaDownload::CudaDownload(cudaStream_t made_on, cudaStream_t copied_on, size_t bytes, std::function<void()> check, RunOn* run_on)
    : made_on_(made_on), copied_on_(copied_on), check_(std::move(check)), run_on_(run_on) {
  check_cuda(cudaEventCreateWithFlags(&made_, cudaEventDisableTiming), "event", kSite);
  check_cuda(cudaEventCreateWithFlags(&done_, cudaEventDisableTiming), "event", kSite);
  check_cuda(cudaMallocHost(&data_, std::max<size_t>(bytes, 1)), "pinned host memory", kSite);
}

CudaDownload::~CudaDownload() {
  cudaEventSynchronize(done_);
  cudaEventDestroy(done_);
  cudaEventDestroy(made_);
  cudaFreeHost(data_);
}

void CudaDownload::start(const void* from, size_t bytes) {
  tokens_ = bytes / sizeof(SampledToken);
  const bool of_tokens = tokens_ > 0 && tokens_ <= decode::kMaxRows && bytes % sizeof(SampledToken) == 0;
  number_ = run_on_ && of_tokens ? run_on_->number_of(from) : std::nullopt;
  if (number_) return;
  if (run_on_) run_on_->leave();
  check_cuda(cudaEventRecord(made_, made_on_), "event", kSite);
  check_cuda(cudaStreamWaitEvent(copied_on_, made_), "wait for the step", kSite);
  check_cuda(cudaMemcpyAsync(data_, from, bytes, cudaMemcpyDeviceToHost, copied_on_), "copy", kSite);
  check_cuda(cudaEventRecord(done_, copied_on_), "event", kSite);
}

const void* CudaDownload::wait() {
  if (number_) {
    // What the kernel draws by itself comes without log-probabilities.
    const DrawnIds ids = run_on_->wait(*number_);
    check_();
    for (size_t i = 0; i < tokens_; ++i) {
      SampledToken token{};
      token.id = ids[i];
      std::memcpy(static_cast<std::byte*>(data_) + i * sizeof token, &token, sizeof token);
    }
    return data_;
  }
  const cudaError_t status = cudaEventSynchronize(done_);
  check_();  // first: a kernel that reports a fault and ends itself fails the stream too, and the fault says more
  check_cuda(status, "wait", kSite);
  return data_;
}

}  // namespace bolide
