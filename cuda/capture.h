// Work on a stream as a CUDA graph, for measurements: captured once, launched often, so that the host's launching is not what is timed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "backend/backend.h"
#include "cuda/check.h"

namespace bolide {

class CapturedWork {
 public:
  // `enqueue` puts work on the stream; whatever it loads or chooses on a first call must have happened before.
  CapturedWork(cudaStream_t stream, const std::function<void()>& enqueue, const CudaSite& site);
  ~CapturedWork();
  CapturedWork(const CapturedWork&) = delete;
  CapturedWork& operator=(const CapturedWork&) = delete;

  int32_t kernels() const;
  void launch();
  // Median seconds of `repetitions` launches, after a few that do not count.
  double median_seconds(int32_t repetitions);

 private:
  cudaStream_t stream_;
  CudaSite site_;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

// An event that times.
class TimeMark {
 public:
  explicit TimeMark(const CudaSite& site);
  ~TimeMark() { cudaEventDestroy(event_); }
  TimeMark(const TimeMark&) = delete;
  TimeMark& operator=(const TimeMark&) = delete;
  cudaEvent_t event() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Times `count` pieces of work that run in order, within one graph with an event between each two: enqueue(i) puts piece i on the
// stream. Median of `repetitions` launches.
std::vector<OpTime> time_pieces(cudaStream_t stream, size_t count, int32_t repetitions, const std::function<void(size_t)>& enqueue);

}  // namespace bolide
