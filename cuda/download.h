// Bytes from the device to the host beside the work of later steps.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <optional>

#include "backend/backend.h"
#include "cuda/decode/run_on.h"

namespace bolide {

class CudaDownload final : public Download {
 public:
  // made_on: the stream on which the bytes are made; copied_on: the one that copies them. check: called when a copy is done, throws what
  // the device has reported. run_on: null, or whose kernels say their tokens themselves.
  CudaDownload(cudaStream_t made_on, cudaStream_t copied_on, size_t bytes, std::function<void()> check, RunOn* run_on = nullptr);
  ~CudaDownload() override;
  CudaDownload(const CudaDownload&) = delete;
  CudaDownload& operator=(const CudaDownload&) = delete;
  void start(const void* from, size_t bytes) override;
  const void* wait() override;

 private:
  cudaStream_t made_on_, copied_on_;
  std::function<void()> check_;
  RunOn* run_on_;
  std::optional<uint32_t> number_;  // of the step whose tokens are waited for, where its kernel says them
  size_t tokens_ = 0;               // and how many those are
  void* data_ = nullptr;
  cudaEvent_t made_ = nullptr, done_ = nullptr;
};

}  // namespace bolide
