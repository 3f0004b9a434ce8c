// A whole step of a two-layer model with random weights, run op by op, eagerly as a step, captured, and replayed with other inputs.
#include <algorithm>
#include <cstring>

#include "catch.h"
#include "core/error.h"
#include "core/philox.h"
#include "gpu.h"

using namespace bolide;

namespace {

constexpr ModelDims kDims{64, 96, 2, 4, 2, 16, 200};
constexpr int32_t kChunk = 16, kChunks = 8;

std::vector<uint16_t> random_bf16(size_t n, uint64_t seed) {
  std::vector<uint16_t> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = f32_to_bf16(0.4f * uniform_open(philox4x32(seed, i, 0).v[0]) - 0.2f);
  return values;
}

// Holds a step's memory and fills it with one sequence that grows by `rows` a run.
class TinyModel {
 public:
  TinyModel(Backend& backend, int32_t rows) : backend_(backend), rows_(rows) {
    const auto matrix = [&](int64_t n, int64_t k) {
      host_.push_back(random_bf16(static_cast<size_t>(n * k), host_.size() + 1));
      const TensorView view{host_.back().data(), DType::bf16, {n, k}};
      matrices_.push_back(backend.prepare({&view, 1}));
      return matrices_.back().get();
    };
    const int32_t q = kDims.heads * kDims.head_dim, kv = kDims.kv_heads * kDims.head_dim;
    const float* ones = floats(std::vector<float>(kDims.hidden, 1.0f));
    const float* frequencies = floats({1.0f, 0.5f, 0.25f, 0.125f, 0.0625f, 0.03f, 0.015f, 0.0075f});
    x_ = floats(std::vector<float>(static_cast<size_t>(rows) * kDims.hidden));
    float* rope = floats(std::vector<float>(static_cast<size_t>(rows) * kDims.head_dim));
    logits_ = floats(std::vector<float>(kDims.vocab));
    const auto activations = [&](int32_t width) {
      return ActivationBuffer{memory(static_cast<size_t>(rows) * width * 4), backend.activation_dtype()};
    };
    const ActivationBuffer qs = activations(q), attn = activations(q), ff = activations(kDims.mlp);
    sampled_ = static_cast<SampledToken*>(memory(sizeof(SampledToken)));
    cache_ = backend.alloc_kv({kDims.layers, kDims.kv_heads, kDims.head_dim, kChunk, kChunks, backend.activation_dtype()});
    place_inputs();

    const Matrix* table = matrix(kDims.vocab, kDims.hidden);
    step.capacity = {rows, 1, 1, kChunks, 0, 0};
    step.ops.push_back(EmbedArgs{&inputs_, table, 1.0f, frequencies, x_, rope, kDims.hidden, kDims.head_dim});
    for (int32_t layer = 0; layer < kDims.layers; ++layer) {
      step.ops.push_back(NormQkvArgs{&inputs_, x_, ones, 1e-6f, matrix(q + 2 * kv, kDims.hidden), nullptr, nullptr, nullptr, rope, qs,
                                     cache_.get(), layer, kDims.hidden, kDims.heads, kDims.kv_heads, kDims.head_dim});
      step.ops.push_back(AttentionArgs{&inputs_, qs, cache_.get(), attn, 0.25f, 0, layer, kDims.heads, kDims.kv_heads, kDims.head_dim});
      step.ops.push_back(ProjectAddArgs{&inputs_, attn, matrix(kDims.hidden, q), nullptr, x_, layer});
      step.ops.push_back(NormGateUpArgs{&inputs_, x_, ones, 1e-6f, matrix(2 * kDims.mlp, kDims.hidden), nullptr, GatedActivation::silu, ff,
                                        layer, kDims.hidden, kDims.mlp});
      step.ops.push_back(ProjectAddArgs{&inputs_, ff, matrix(kDims.hidden, kDims.mlp), nullptr, x_, layer});
    }
    step.ops.push_back(LogitsArgs{&inputs_, x_, ones, 1e-6f, table, logits_, kDims.hidden, kDims.vocab});
    step.ops.push_back(SampleArgs{&inputs_, logits_, sampled_, kDims.vocab});
    backend.reserve(step.capacity, kDims);
  }

  // Inputs for positions run * rows ..; `count` rows of the capacity are used.
  void fill(int32_t run, int32_t count) {
    std::vector<int32_t> ids, positions, sequences, slots, chunks(kChunks);
    for (int32_t i = 0; i < count; ++i) {
      const int32_t position = run * rows_ + i;
      ids.push_back((position * 37 + 11) % kDims.vocab);
      positions.push_back(position);
      sequences.push_back(0);
      slots.push_back((kChunks - 1 - position / kChunk) * kChunk + position % kChunk);
    }
    for (int32_t i = 0; i < kChunks; ++i) chunks[static_cast<size_t>(i)] = kChunks - 1 - i;
    put(inputs_.counts, std::vector<StepCounts>{{count, 1, 1}});
    put(inputs_.token_ids, ids);
    put(inputs_.positions, positions);
    put(inputs_.row_sequences, sequences);
    put(inputs_.slots, slots);
    put(inputs_.query_offsets, std::vector<int32_t>{0, count});
    put(inputs_.kv_lengths, std::vector<int32_t>{run * rows_ + count});
    put(inputs_.chunk_offsets, std::vector<int32_t>{0, kChunks});
    put(inputs_.chunk_ids, chunks);
    put(inputs_.logit_rows, std::vector<int32_t>{count - 1});
    put(inputs_.seen_offsets, std::vector<int32_t>{0, 0});
    put(inputs_.bias_offsets, std::vector<int32_t>{0, 0});
    put(inputs_.sampling, std::vector<SamplingSpec>(1));
  }

  std::vector<float> logits() {
    std::vector<float> values(kDims.vocab);
    backend_.download(values.data(), logits_, values.size() * sizeof(float));
    return values;
  }
  int32_t token() {
    SampledToken token;
    backend_.download(&token, sampled_, sizeof token);
    return token.id;
  }

  Step step;

 private:
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
    for (int32_t** rows : {&inputs_.token_ids, &inputs_.positions, &inputs_.row_sequences, &inputs_.slots}) *rows = ints(rows_);
    for (int32_t** offsets : {&inputs_.query_offsets, &inputs_.chunk_offsets, &inputs_.seen_offsets, &inputs_.bias_offsets})
      *offsets = ints(2);
    inputs_.kv_lengths = ints(1);
    inputs_.chunk_ids = ints(kChunks);
    inputs_.logit_rows = ints(1);
    inputs_.sampling = static_cast<SamplingSpec*>(memory(sizeof(SamplingSpec)));
  }

  Backend& backend_;
  int32_t rows_;
  std::vector<std::vector<uint16_t>> host_;
  std::vector<std::unique_ptr<Matrix>> matrices_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::unique_ptr<KvCache> cache_;
  StepInputs inputs_;
  float* x_ = nullptr;
  float* logits_ = nullptr;
  SampledToken* sampled_ = nullptr;
};

struct Outcome {
  std::vector<float> logits;
  int32_t token;
};

// Four runs over growing positions, the last with fewer rows than the capacity.
std::vector<Outcome> run(Backend& backend, int32_t rows, bool as_step) {
  TinyModel model(backend, rows);
  std::vector<Outcome> outcomes;
  for (int32_t i = 0; i < 4; ++i) {
    model.fill(i, i < 3 ? rows : (rows + 1) / 2);
    if (as_step)
      backend.run_step(model.step);
    else
      backend.Backend::run_step(model.step);
    backend.sync();
    outcomes.push_back({model.logits(), model.token()});
  }
  return outcomes;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("a captured step gives the bits of its ops one by one") {
  const auto backend = cuda_test::gpu("a captured step gives the bits of its ops one by one");
  if (!backend) return;
  for (const int32_t rows : {1, 3, 8, 20}) {
    INFO("rows " << rows);
    const auto eager = run(*backend, rows, false), graph = run(*backend, rows, true);
    for (size_t i = 0; i < eager.size(); ++i) {
      INFO("run " << i);
      CHECK(same_bits(eager[i].logits, graph[i].logits));
      CHECK(eager[i].token == graph[i].token);
      const auto best = std::max_element(eager[i].logits.begin(), eager[i].logits.end());
      CHECK(eager[i].token == best - eager[i].logits.begin());
    }
    CHECK_FALSE(same_bits(graph[0].logits, graph[1].logits));
  }
}

TEST_CASE("a step of few rows agrees with a step of many") {
  const auto backend = cuda_test::gpu("a step of few rows agrees with a step of many", DType::f32);
  if (!backend) return;
  // 24 positions as 24 single rows, as 8 x 3 and as one piece of 24: the same last logits in float32.
  const auto last = [&](int32_t rows, int32_t runs) {
    TinyModel model(*backend, rows);
    for (int32_t i = 0; i < runs; ++i) {
      model.fill(i, rows);
      backend->run_step(model.step);
      backend->sync();
    }
    return model.logits();
  };
  const std::vector<float> whole = last(24, 1);
  double norm = 0.0;
  for (const float v : whole) norm += static_cast<double>(v) * v;
  REQUIRE(norm > 0.0);
  for (const auto& pieces : {last(1, 24), last(3, 8), last(12, 2)}) {
    double error = 0.0;
    for (size_t i = 0; i < whole.size(); ++i)
      error += (static_cast<double>(pieces[i]) - whole[i]) * (static_cast<double>(pieces[i]) - whole[i]);
    CHECK(error < 1e-10 * norm);
  }
}

TEST_CASE("ops are timed one by one, and the step's results stay what they are") {
  const auto backend = cuda_test::gpu("ops are timed one by one, and the step's results stay what they are");
  if (!backend) return;
  for (const int32_t rows : {1, 20}) {
    TinyModel model(*backend, rows);
    model.fill(0, rows);
    backend->run_step(model.step);
    backend->sync();
    const std::vector<float> expected = model.logits();
    const std::vector<OpTime> times = backend->time_ops(model.step, 3);
    REQUIRE(times.size() == model.step.ops.size());
    for (const OpTime& time : times) {
      CHECK(time.seconds >= 0);  // an event's clock does not resolve the shortest ops
      CHECK(time.seconds < 0.1);
      CHECK(time.kernels > 0);
    }
    CHECK(same_bits(model.logits(), expected));
    backend->run_step(model.step);
    backend->sync();
    CHECK(same_bits(model.logits(), expected));
  }
}

TEST_CASE("what only the device sees becomes an error") {
  const auto backend = cuda_test::gpu("what only the device sees becomes an error");
  if (!backend) return;
  TinyModel model(*backend, 1);
  model.fill(0, 1);
  const int32_t outside = kDims.vocab;
  const auto& embed = std::get<EmbedArgs>(model.step.ops.front());
  backend->upload(embed.in->token_ids, &outside, sizeof outside);
  backend->run_step(model.step);
  std::string text;
  try {
    backend->sync();
  } catch (const Error& error) {
    text = error.what();
  }
  CHECK(text.find("token id 200") != std::string::npos);
  model.fill(0, 1);
  backend->run_step(model.step);
  backend->sync();  // the fault is gone with its report
}
