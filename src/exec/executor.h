// Owns the model on a backend (prepared weights, activations, KV bytes, step inputs) and runs batches.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "exec/batch.h"
#include "exec/step_profile.h"
#include "model/weights.h"

namespace bolide {

struct ExecutorOptions {
  StepCapacity capacity;
  int32_t chunk_tokens = 64;  // C
  int32_t kv_chunks = 0;
  DType kv_dtype = DType::f32;
};

// What making an executor took, in seconds.
struct ExecutorTimes {
  double memory = 0;  // allocating K and V, activations and step inputs, and the backend's scratch
  // Preparing the weights: on a GPU until they, and the libraries loaded beside them, are there; on the CPU they stay where they are
  // mapped.
  double weights = 0;
};

class Executor {
 public:
  // Weights' views and the backend must outlive the executor. Throws MemoryError when buffers do not fit.
  Executor(Backend& backend, const ModelConfig& config, const ModelWeights& weights, const ExecutorOptions& options);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  // Uploads the batch and starts the step. At most kStepsInFlight submissions may be under way. A token id -1 - r in the batch stands for what
  // logits row r of the submission before draws.
  void submit(const Batch& batch);
  // Finishes the oldest step under way. One entry per logits row, valid until the next wait.
  std::span<const SampledToken> wait();
  // Whether submit() returns before the work is done.
  bool asynchronous() const;

  const ExecutorOptions& options() const;
  const KvCacheSpec& kv_spec() const;
  size_t workspace_bytes() const;  // activations, step inputs and logits
  ExecutorTimes times() const;

  // Times the batch's step: as a whole, as submit runs it, and op by op (Backend::time_ops), `repetitions` times each. The KV cache is
  // written as by submit, each time with the same values.
  StepProfile profile(const Batch& batch, int32_t repetitions);

  // Test access: logits [R, V] of the last finished step, downloaded.
  std::vector<float> download_logits() const;
  // Test access, for the first divergence from a reference: runs the batch op by op and returns the residual stream x [T, D] after the
  // embedding and after each layer's attention and MLP (2 L + 1 arrays). The KV cache is written as by submit.
  std::vector<std::vector<float>> trace(const Batch& batch);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace bolide
