// A model with random weights as a step of a backend, without an executor: one sequence or several, whose positions a test runs in any
// pieces, or one of each sequence.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "backend/backend.h"

namespace bolide::cuda_test {

struct StepModelOptions {
  ModelDims dims{64, 96, 2, 4, 2, 16, 200};
  int32_t rows = 1;                // capacity of a step
  int32_t chunk = 16, chunks = 8;  // tokens of a KV chunk, and how many a sequence has
  int32_t sequences = 1;
  bool vectors = false;  // norms of heads, biases, and norm weights other than one
  int32_t window = 0;    // of the last layer
  GatedActivation activation = GatedActivation::silu;
  float embed_scale = 1.0f;
  std::optional<DType> kv;  // of the cache; the activations' where it is not said
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

// Holds a step's memory and fills it. The last of a sequence's chunks holds its first positions, unless set_first_chunk says otherwise.
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
    logits_ = floats(std::vector<float>(static_cast<size_t>(o_.sequences) * static_cast<size_t>(d.vocab)));
    const auto activations = [&](int32_t width) {
      return ActivationBuffer{memory(rows * static_cast<size_t>(width) * 4), backend.activation_dtype()};
    };
    const ActivationBuffer qs = activations(q), attn = activations(q), ff = activations(d.mlp);
    sampled_ = static_cast<SampledToken*>(memory(static_cast<size_t>(o_.sequences) * sizeof(SampledToken)));
    o_.dims.kv = o_.kv.value_or(backend.activation_dtype());
    cache_ = backend.alloc_kv({d.layers, d.kv_heads, d.head_dim, o_.chunk, o_.chunks * o_.sequences, d.kv});
    place_inputs();

    const float scale = 1.0f / std::sqrt(static_cast<float>(d.head_dim));
    const Matrix* table = matrix(d.vocab, d.hidden);
    step.capacity = {o_.rows, o_.sequences, o_.sequences, o_.chunks * o_.sequences, 0, 0};
    step.kv = cache_.get();
    step.ops.push_back(EmbedArgs{&inputs_, table, o_.embed_scale, floats(frequencies), x_, rope, d.hidden, d.head_dim});
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
    single.capacity = {1, 1, 1, o_.chunks, 0, 0};
    each = step;
    each.capacity.tokens = o_.sequences;
    each.one_row_each = true;
  }

  // Inputs for positions first .. first + count - 1 of a sequence; count: at most the capacity's rows.
  void fill(int32_t first, int32_t count, const SamplingSpec& sampling = {}, int32_t sequence = 0) {
    Rows rows;
    for (int32_t position = first; position < first + count; ++position) add(rows, sequence, 0, position);
    end_sequence(rows, sequence, first + count, sampling);
    put(rows);
  }
  // Inputs for one position of each of the sequences in `which`, in that order.
  void fill_each(const std::vector<int32_t>& which, const std::vector<int32_t>& positions, const std::vector<SamplingSpec>& sampling) {
    Rows rows;
    for (size_t i = 0; i < which.size(); ++i) {
      add(rows, which[i], static_cast<int32_t>(i), positions[i]);
      end_sequence(rows, which[i], positions[i] + 1, sampling[i]);
    }
    put(rows);
  }
  // The chunk of the first sequence's first positions.
  void set_first_chunk(int32_t chunk) { first_chunk_ = chunk; }
  // Puts other token ids into the first rows.
  void set_tokens(const std::vector<int32_t>& ids) { put(inputs_.token_ids, ids); }

  std::vector<float> logits(int32_t row = 0) {
    std::vector<float> values(static_cast<size_t>(o_.dims.vocab));
    backend_.download(values.data(), logits_ + static_cast<int64_t>(row) * o_.dims.vocab, values.size() * sizeof(float));
    return values;
  }
  int32_t token(int32_t row = 0) {
    SampledToken token;
    backend_.download(&token, sampled_ + row, sizeof token);
    return token.id;
  }

  Step step;
  Step single;  // the same for one row
  Step each;    // for one row of each sequence

 private:
  struct Rows {
    std::vector<int32_t> ids, positions, sequences, slots, offsets{0}, lengths, chunk_offsets{0}, chunks, logit_rows;
    std::vector<SamplingSpec> sampling;
  };
  void add(Rows& rows, int32_t sequence, int32_t place, int32_t position) {
    rows.ids.push_back((position * 37 + 11 + 5 * sequence) % o_.dims.vocab);
    rows.positions.push_back(position);
    rows.sequences.push_back(place);
    rows.slots.push_back(chunk_of(sequence, position / o_.chunk) * o_.chunk + position % o_.chunk);
  }
  void end_sequence(Rows& rows, int32_t sequence, int32_t length, const SamplingSpec& sampling) {
    const auto count = static_cast<int32_t>(rows.ids.size());
    rows.offsets.push_back(count);
    rows.lengths.push_back(length);
    for (int32_t i = 0; i < o_.chunks; ++i) rows.chunks.push_back(chunk_of(sequence, i));
    rows.chunk_offsets.push_back(static_cast<int32_t>(rows.chunks.size()));
    rows.logit_rows.push_back(count - 1);
    rows.sampling.push_back(sampling);
  }
  int32_t chunk_of(int32_t sequence, int32_t i) const {
    return sequence == 0 && i == 0 && first_chunk_ >= 0 ? first_chunk_ : (sequence + 1) * o_.chunks - 1 - i;
  }
  void put(const Rows& rows) {
    const auto tokens = static_cast<int32_t>(rows.ids.size()), sequences = static_cast<int32_t>(rows.lengths.size());
    put(inputs_.counts, std::vector<StepCounts>{{tokens, sequences, sequences}});
    put(inputs_.token_ids, rows.ids);
    put(inputs_.positions, rows.positions);
    put(inputs_.row_sequences, rows.sequences);
    put(inputs_.slots, rows.slots);
    put(inputs_.query_offsets, rows.offsets);
    put(inputs_.kv_lengths, rows.lengths);
    put(inputs_.chunk_offsets, rows.chunk_offsets);
    put(inputs_.chunk_ids, rows.chunks);
    put(inputs_.logit_rows, rows.logit_rows);
    put(inputs_.seen_offsets, std::vector<int32_t>(static_cast<size_t>(sequences) + 1));
    put(inputs_.bias_offsets, std::vector<int32_t>(static_cast<size_t>(sequences) + 1));
    put(inputs_.sampling, rows.sampling);
  }
  const Matrix* matrix(int64_t n, int64_t k) {
    const auto count = static_cast<size_t>(n * k);
    // Large ones repeat after a prime number of elements: drawing all of them takes longer than the test.
    const std::vector<float> values = random_floats(std::min<size_t>(count, 4194319), ++seed_, 1.6f / std::sqrt(static_cast<float>(k)));
    std::vector<uint16_t>& stored = host_.emplace_back(count);
    for (size_t i = 0; i < values.size(); ++i) stored[i] = f32_to_bf16(values[i]);
    for (size_t i = values.size(); i < count; i += values.size())
      std::copy_n(stored.begin(), std::min(values.size(), count - i), stored.begin() + static_cast<std::ptrdiff_t>(i));
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
      *offsets = ints(o_.sequences + 1);
    inputs_.kv_lengths = ints(o_.sequences);
    inputs_.chunk_ids = ints(o_.chunks * o_.sequences);
    inputs_.logit_rows = ints(o_.sequences);
    inputs_.sampling = static_cast<SamplingSpec*>(memory(static_cast<size_t>(o_.sequences) * sizeof(SamplingSpec)));
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
// |a - b| / |b|
inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0, norm = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(sum / norm);
}

}  // namespace bolide::cuda_test
