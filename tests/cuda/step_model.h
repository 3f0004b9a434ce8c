// A model with random weights as a step of a backend, without an executor: one sequence, whose positions a test runs in any pieces.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace bolide::cuda_test {

struct StepModelOptions {
  ModelDims dims{64, 96, 2, 4, 2, 16, 200};
  int32_t rows = 1;                // capacity of a step
  int32_t chunk = 16, chunks = 8;  // tokens of a KV chunk, and how many there are
  bool vectors = false;            // norms of heads, biases, and norm weights other than one
  int32_t window = 0;              // of the last layer
  GatedActivation activation = GatedActivation::silu;
};

// Uniform numbers in +-scale.
inline std::vector<float> random_floats(size_t n, uint64_t seed, float scale) {
  std::vector<float> values(n);
  uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
  for (float& value : values) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    value = scale * (static_cast<float>(state >> 40) * 0x1p-23f - 1.0f);
  }
  return values;
}

// Holds a step's memory and fills it. The last chunk holds the first positions, unless set_first_chunk says otherwise.
class StepModel {
 public:
  StepModel(Backend& backend, const StepModelOptions& options) : backend_(backend), o_(options) {
    const ModelDims& d = o_.dims;
    const int32_t q = d.heads * d.head_dim, kv = d.kv_heads * d.head_dim;
    const auto rows = static_cast<size_t>(o_.rows);
    std::vector<float> frequencies;
    for (int32_t i = 0; i < d.head_dim / 2; ++i)
      frequencies.push_back(std::pow(1e4f, -2.0f * static_cast<float>(i) / static_cast<float>(d.head_dim)));
    x_ = floats(std::vector<float>(rows * static_cast<size_t>(d.hidden)));
    float* rope = floats(std::vector<float>(rows * static_cast<size_t>(d.head_dim)));
    logits_ = floats(std::vector<float>(static_cast<size_t>(d.vocab)));
    const auto activations = [&](int32_t width) {
      return ActivationBuffer{memory(rows * static_cast<size_t>(width) * 4), backend.activation_dtype()};
    };
    const ActivationBuffer qs = activations(q), attn = activations(q), ff = activations(d.mlp);
    sampled_ = static_cast<SampledToken*>(memory(sizeof(SampledToken)));
    cache_ = backend.alloc_kv({d.layers, d.kv_heads, d.head_dim, o_.chunk, o_.chunks, backend.activation_dtype()});
    place_inputs();

    const float scale = 1.0f / std::sqrt(static_cast<float>(d.head_dim));
    const Matrix* table = matrix(d.vocab, d.hidden);
    step.capacity = {o_.rows, 1, 1, o_.chunks, 0, 0};
    step.kv = cache_.get();
    step.ops.push_back(EmbedArgs{&inputs_, table, 1.0f, floats(frequencies), x_, rope, d.hidden, d.head_dim});
    for (int32_t layer = 0; layer < d.layers; ++layer) {
      NormQkvArgs qkv{&inputs_,         x_,      norm(d.hidden), 1e-6f,   matrix(q + 2 * kv, d.hidden),
                      bias(q + 2 * kv), nullptr, nullptr,        rope,    qs,
                      cache_.get(),     layer,   d.hidden,       d.heads, d.kv_heads,
                      d.head_dim};
      if (o_.vectors) qkv.q_norm = norm(d.head_dim), qkv.k_norm = norm(d.head_dim);
      step.ops.push_back(qkv);
      step.ops.push_back(AttentionArgs{&inputs_, qs, cache_.get(), attn, scale, layer + 1 == d.layers ? o_.window : 0, layer, d.heads,
                                       d.kv_heads, d.head_dim});
      step.ops.push_back(ProjectAddArgs{&inputs_, attn, matrix(d.hidden, q), bias(d.hidden), x_, layer});
      step.ops.push_back(NormGateUpArgs{&inputs_, x_, norm(d.hidden), 1e-6f, matrix(2 * d.mlp, d.hidden), bias(2 * d.mlp), o_.activation,
                                        ff, layer, d.hidden, d.mlp});
      step.ops.push_back(ProjectAddArgs{&inputs_, ff, matrix(d.hidden, d.mlp), bias(d.hidden), x_, layer});
    }
    step.ops.push_back(LogitsArgs{&inputs_, x_, norm(d.hidden), 1e-6f, table, logits_, d.hidden, d.vocab});
    step.ops.push_back(SampleArgs{&inputs_, logits_, sampled_, d.vocab});
    backend.reserve(step.capacity, d);
    single = step;
    single.capacity.tokens = 1;
  }

  // Inputs for positions first .. first + count - 1; count: at most the capacity's rows.
  void fill(int32_t first, int32_t count, const SamplingSpec& sampling = {}) {
    std::vector<int32_t> ids, positions, sequences, slots, chunks(static_cast<size_t>(o_.chunks));
    for (int32_t position = first; position < first + count; ++position) {
      ids.push_back((position * 37 + 11) % o_.dims.vocab);
      positions.push_back(position);
      sequences.push_back(0);
      slots.push_back(chunk_of(position) * o_.chunk + position % o_.chunk);
    }
    for (int32_t i = 0; i < o_.chunks; ++i) chunks[static_cast<size_t>(i)] = chunk_of(i * o_.chunk);
    put(inputs_.counts, std::vector<StepCounts>{{count, 1, 1}});
    put(inputs_.token_ids, ids);
    put(inputs_.positions, positions);
    put(inputs_.row_sequences, sequences);
    put(inputs_.slots, slots);
    put(inputs_.query_offsets, std::vector<int32_t>{0, count});
    put(inputs_.kv_lengths, std::vector<int32_t>{first + count});
    put(inputs_.chunk_offsets, std::vector<int32_t>{0, o_.chunks});
    put(inputs_.chunk_ids, chunks);
    put(inputs_.logit_rows, std::vector<int32_t>{count - 1});
    put(inputs_.seen_offsets, std::vector<int32_t>{0, 0});
    put(inputs_.bias_offsets, std::vector<int32_t>{0, 0});
    put(inputs_.sampling, std::vector<SamplingSpec>{sampling});
  }
  void set_first_chunk(int32_t chunk) { first_chunk_ = chunk; }
  // Puts another token id into the first row.
  void set_token(int32_t id) { put(inputs_.token_ids, std::vector<int32_t>{id}); }

  std::vector<float> logits() {
    std::vector<float> values(static_cast<size_t>(o_.dims.vocab));
    backend_.download(values.data(), logits_, values.size() * sizeof(float));
    return values;
  }
  int32_t token() {
    SampledToken token;
    backend_.download(&token, sampled_, sizeof token);
    return token.id;
  }

  Step step;
  Step single;  // the same for one row

 private:
  int32_t chunk_of(int32_t position) const {
    return position < o_.chunk && first_chunk_ >= 0 ? first_chunk_ : o_.chunks - 1 - position / o_.chunk;
  }
  const Matrix* matrix(int64_t n, int64_t k) {
    const std::vector<float> values = random_floats(static_cast<size_t>(n * k), ++seed_, 1.6f / std::sqrt(static_cast<float>(k)));
    std::vector<uint16_t>& stored = host_.emplace_back(values.size());
    for (size_t i = 0; i < values.size(); ++i) stored[i] = f32_to_bf16(values[i]);
    const TensorView view{stored.data(), DType::bf16, {n, k}};
    matrices_.push_back(backend_.prepare({&view, 1}));
    return matrices_.back().get();
  }
  const float* norm(int32_t n) {
    std::vector<float> values(static_cast<size_t>(n), 1.0f);
    if (o_.vectors) {
      values = random_floats(values.size(), ++seed_, 0.5f);
      for (float& value : values) value += 1.0f;
    }
    return floats(values);
  }
  const float* bias(int32_t n) { return o_.vectors ? floats(random_floats(static_cast<size_t>(n), ++seed_, 0.2f)) : nullptr; }
  void* memory(size_t bytes) {
    buffers_.push_back(backend_.alloc(bytes));
    return buffers_.back()->data();
  }
  float* floats(const std::vector<float>& values) {
    auto* data = static_cast<float*>(memory(values.size() * sizeof(float)));
    put(data, values);
    return data;
  }
  template <typename T>
  void put(T* to, const std::vector<T>& values) {
    backend_.upload(to, values.data(), values.size() * sizeof(T));
  }
  void place_inputs() {
    const auto ints = [&](int32_t n) { return static_cast<int32_t*>(memory(static_cast<size_t>(n) * sizeof(int32_t))); };
    inputs_.counts = static_cast<StepCounts*>(memory(sizeof(StepCounts)));
    for (int32_t** rows : {&inputs_.token_ids, &inputs_.positions, &inputs_.row_sequences, &inputs_.slots}) *rows = ints(o_.rows);
    for (int32_t** offsets : {&inputs_.query_offsets, &inputs_.chunk_offsets, &inputs_.seen_offsets, &inputs_.bias_offsets})
      *offsets = ints(2);
    inputs_.kv_lengths = ints(1);
    inputs_.chunk_ids = ints(o_.chunks);
    inputs_.logit_rows = ints(1);
    inputs_.sampling = static_cast<SamplingSpec*>(memory(sizeof(SamplingSpec)));
  }

  Backend& backend_;
  StepModelOptions o_;
  uint64_t seed_ = 0;
  int32_t first_chunk_ = -1;
  std::vector<std::vector<uint16_t>> host_;
  std::vector<std::unique_ptr<Matrix>> matrices_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::unique_ptr<KvCache> cache_;
  StepInputs inputs_;
  float* x_ = nullptr;
  float* logits_ = nullptr;
  SampledToken* sampled_ = nullptr;
};

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace bolide::cuda_test
