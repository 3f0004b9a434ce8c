#include "exec/step_layout.h"

namespace bolide {
namespace {

// Hands out aligned ranges one after the other.
class Carver {
 public:
  size_t take(size_t count, size_t element_bytes) {
    const size_t at = bytes_;
    bytes_ += (count * element_bytes + kArrayAlignment - 1) / kArrayAlignment * kArrayAlignment;
    return at;
  }
  size_t bytes() const { return bytes_; }

 private:
  size_t bytes_ = 0;
};

size_t count(int64_t n) { return n > 0 ? static_cast<size_t>(n) : 0; }

}  // namespace

InputLayout input_layout(const StepCapacity& capacity) {
  const size_t tokens = count(capacity.tokens), sequences = count(capacity.sequences), rows = count(capacity.logit_rows);
  Carver carver;
  InputLayout layout{};
  layout.counts = carver.take(1, sizeof(StepCounts));
  layout.token_ids = carver.take(tokens, sizeof(int32_t));
  layout.positions = carver.take(tokens, sizeof(int32_t));
  layout.row_sequences = carver.take(tokens, sizeof(int32_t));
  layout.slots = carver.take(tokens, sizeof(int32_t));
  layout.query_offsets = carver.take(sequences + 1, sizeof(int32_t));
  layout.kv_lengths = carver.take(sequences, sizeof(int32_t));
  layout.chunk_offsets = carver.take(sequences + 1, sizeof(int32_t));
  layout.logit_rows = carver.take(rows, sizeof(int32_t));
  layout.sampling = carver.take(rows, sizeof(SamplingSpec));
  layout.seen_offsets = carver.take(rows + 1, sizeof(int32_t));
  layout.bias_offsets = carver.take(rows + 1, sizeof(int32_t));
  layout.chunk_ids = carver.take(count(capacity.chunk_ids), sizeof(int32_t));
  layout.biases = carver.take(count(capacity.logit_biases), sizeof(LogitBias));
  layout.seen = carver.take(count(capacity.seen_tokens), sizeof(SeenToken));
  layout.bytes = carver.bytes();
  return layout;
}

StepInputs place_inputs(std::byte* base, const InputLayout& layout) {
  const auto ints = [&](size_t offset) { return reinterpret_cast<int32_t*>(base + offset); };
  StepInputs in;
  in.counts = reinterpret_cast<StepCounts*>(base + layout.counts);
  in.token_ids = ints(layout.token_ids);
  in.positions = ints(layout.positions);
  in.row_sequences = ints(layout.row_sequences);
  in.slots = ints(layout.slots);
  in.query_offsets = ints(layout.query_offsets);
  in.kv_lengths = ints(layout.kv_lengths);
  in.chunk_offsets = ints(layout.chunk_offsets);
  in.chunk_ids = ints(layout.chunk_ids);
  in.logit_rows = ints(layout.logit_rows);
  in.sampling = reinterpret_cast<SamplingSpec*>(base + layout.sampling);
  in.seen_offsets = ints(layout.seen_offsets);
  in.seen = reinterpret_cast<SeenToken*>(base + layout.seen);
  in.bias_offsets = ints(layout.bias_offsets);
  in.biases = reinterpret_cast<LogitBias*>(base + layout.biases);
  return in;
}

ActivationLayout activation_layout(const ModelDims& dims, const StepCapacity& capacity, DType activations) {
  const size_t tokens = count(capacity.tokens), rows = count(capacity.logit_rows), size = dtype_size(activations);
  const size_t q_width = count(dims.heads) * count(dims.head_dim);
  Carver carver;
  ActivationLayout layout{};
  layout.x = carver.take(tokens * count(dims.hidden), sizeof(float));
  layout.rope = carver.take(tokens * count(dims.head_dim), sizeof(float));
  layout.q = carver.take(tokens * q_width, size);
  layout.attn = carver.take(tokens * q_width, size);
  layout.ff = carver.take(tokens * count(dims.mlp), size);
  layout.logits = carver.take(rows * count(dims.vocab), sizeof(float));
  layout.sampled = carver.take(kStepsInFlight * rows, sizeof(SampledToken));
  layout.bytes = carver.bytes();
  return layout;
}

}  // namespace bolide
