#include "exec/memory_plan.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "exec/step_layout.h"

namespace bolide {
namespace {

constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();

// a * b, or the largest int32; neither is negative.
int32_t saturated_product(int64_t a, int64_t b) {
  if (a > 0 && b > kLargest / a) return static_cast<int32_t>(kLargest);
  return static_cast<int32_t>(a * b);
}

}  // namespace

ModelDims model_dims(const ModelConfig& config, DType kv) {
  ModelDims dims;
  dims.hidden = config.hidden;
  dims.mlp = config.mlp;
  dims.layers = config.layers;
  dims.heads = config.heads;
  dims.kv_heads = config.kv_heads;
  dims.head_dim = config.head_dim;
  dims.vocab = config.vocab;
  dims.kv = kv;
  return dims;
}

size_t workspace_bytes(const ModelConfig& config, const StepCapacity& capacity, DType activations) {
  return kStepsInFlight * input_layout(capacity).bytes + activation_layout(model_dims(config, activations), capacity, activations).bytes;
}

StepCapacity step_capacity(int32_t tokens, int32_t sequences, int32_t logit_rows, int64_t ctx_size, int32_t chunk_tokens) {
  StepCapacity capacity;
  capacity.tokens = tokens;
  capacity.sequences = sequences;
  capacity.logit_rows = std::max(logit_rows, sequences);
  capacity.chunk_ids = chunks_for(ctx_size, sequences, chunk_tokens);
  capacity.seen_tokens = saturated_product(std::max<int64_t>(ctx_size, 0), sequences);
  // An id that has left the repetition window but still counts for the presence and frequency penalties travels as a bias.
  capacity.logit_biases = static_cast<int32_t>(
      std::min<int64_t>(kLargest, static_cast<int64_t>(capacity.seen_tokens) + saturated_product(kMaxLogitBiases, sequences)));
  return capacity;
}

std::vector<StepCapacity> capacity_buckets(const StepCapacity& whole) {
  const auto step = [](int64_t tokens) {
    return tokens < kFineTokens ? tokens : static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(tokens)) / 4);
  };
  std::vector<StepCapacity> buckets;
  for (int64_t tokens = 1; tokens < whole.tokens; tokens += step(tokens)) {
    StepCapacity bucket = whole;
    bucket.tokens = static_cast<int32_t>(tokens);
    bucket.sequences = std::min(whole.sequences, bucket.tokens);
    bucket.logit_rows = std::min(whole.logit_rows, bucket.tokens);
    buckets.push_back(bucket);
  }
  buckets.push_back(whole);
  return buckets;
}

int32_t chunks_for(int64_t ctx_size, int32_t sequences, int32_t chunk_tokens) {
  const int64_t each = ctx_size <= 0 ? 0 : (ctx_size - 1) / chunk_tokens + 1;
  return saturated_product(each, sequences);
}

}  // namespace bolide
