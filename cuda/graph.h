// Whole steps as CUDA graphs: the first run of a step is eager, the second is captured, later ones replay the capture.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <list>
#include <vector>

#include "backend/ops.h"

namespace bolide {

class StepGraphs {
 public:
  StepGraphs() = default;
  ~StepGraphs() { clear(); }
  StepGraphs(const StepGraphs&) = delete;
  StepGraphs& operator=(const StepGraphs&) = delete;

  // Runs the step on the stream; `eager` enqueues its kernels. A step is recognised by its capacity, the bytes of its ops' arguments and
  // `form`, which tells apart the ways in which eager() would run it: an equal step at another address is the same step.
  void run(const Step& step, int form, cudaStream_t stream, const std::function<void()>& eager);
  // Forgets every capture: to be called when memory that captured kernels point to may have moved.
  void clear();

 private:
  struct Entry {
    std::vector<unsigned char> key;
    cudaGraphExec_t graph = nullptr;  // null until the second run
  };
  static std::vector<unsigned char> key_of(const Step& step, int form);

  std::list<Entry> entries_;  // most recently used first
};

}  // namespace bolide
