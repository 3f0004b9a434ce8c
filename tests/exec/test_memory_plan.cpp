#include <algorithm>
#include <limits>

#include "catch.h"
#include "exec/memory_plan.h"
#include "exec/step_layout.h"

using namespace bolide;

namespace {

ModelConfig qwen3_shape() {
  ModelConfig config;
  config.hidden = 1024;
  config.mlp = 3072;
  config.layers = 28;
  config.heads = 16;
  config.kv_heads = 8;
  config.head_dim = 128;
  config.vocab = 151936;
  return config;
}

}  // namespace

TEST_CASE("chunks are rounded up per sequence and saturate") {
  CHECK(chunks_for(0, 4, 64) == 0);
  CHECK(chunks_for(1, 4, 64) == 4);
  CHECK(chunks_for(64, 1, 64) == 1);
  CHECK(chunks_for(65, 3, 64) == 6);
  CHECK(chunks_for(std::numeric_limits<int64_t>::max(), 1000, 1) == std::numeric_limits<int32_t>::max());
}

TEST_CASE("a step has a logits row for every sequence and saturates") {
  const StepCapacity capacity = step_capacity(512, 4, 1, 1000, 64);
  CHECK(capacity.tokens == 512);
  CHECK(capacity.logit_rows == 4);
  CHECK(capacity.chunk_ids == 4 * 16);
  CHECK(capacity.seen_tokens == 4000);
  CHECK(capacity.logit_biases == 4000 + 4 * kMaxLogitBiases);
  CHECK(step_capacity(512, 4, 9, 1000, 64).logit_rows == 9);
  const StepCapacity large = step_capacity(512, 4096, 1, int64_t{1} << 40, 64);
  CHECK(large.seen_tokens == std::numeric_limits<int32_t>::max());
  CHECK(large.logit_biases == std::numeric_limits<int32_t>::max());
}

TEST_CASE("steps are built for capacities that fit them: within a factor of two, many rows within a fourth") {
  for (const int32_t most : {1, 3, 256, 300, 2048, 8192}) {
    const StepCapacity whole = step_capacity(most, 16, 40, 1000, 64);
    const std::vector<StepCapacity> buckets = capacity_buckets(whole);
    REQUIRE(buckets.back().tokens == most);
    CHECK(buckets.back().sequences == 16);
    CHECK(buckets.back().logit_rows == 40);
    int32_t below = 0;
    for (const StepCapacity& bucket : buckets) {
      const int32_t fewest = below + 1;  // tokens of the steps that take this capacity
      REQUIRE(bucket.tokens >= fewest);
      CHECK((fewest > kFineTokens ? 4 * bucket.tokens <= 5 * fewest : bucket.tokens < 2 * fewest));
      if (bucket.tokens < most) CHECK(bucket.sequences == std::min(16, bucket.tokens));
      if (bucket.tokens < most) CHECK(bucket.logit_rows == std::min(40, bucket.tokens));
      CHECK(bucket.chunk_ids == whole.chunk_ids);
      below = bucket.tokens;
    }
  }
}

TEST_CASE("the workspace of a 0.6B model stays far below 150 MB") {
  const size_t bytes = workspace_bytes(qwen3_shape(), step_capacity(512, 1, 1, 40960, 64), DType::f32);
  // x 2 MiB, q and attn 4 each, ff 6, rope 0.25, logits 0.6, step inputs 0.7
  CHECK(bytes > size_t{16} << 20);
  CHECK(bytes < size_t{19} << 20);
}

TEST_CASE("arrays of a step lie apart, aligned, inside their block") {
  const StepCapacity capacity = step_capacity(7, 3, 5, 33, 16);
  const InputLayout in = input_layout(capacity);
  const std::vector<std::pair<size_t, size_t>> inputs = {{in.counts, sizeof(StepCounts)},
                                                         {in.token_ids, 7 * 4},
                                                         {in.positions, 7 * 4},
                                                         {in.row_sequences, 7 * 4},
                                                         {in.slots, 7 * 4},
                                                         {in.query_offsets, 4 * 4},
                                                         {in.kv_lengths, 3 * 4},
                                                         {in.chunk_offsets, 4 * 4},
                                                         {in.logit_rows, 5 * 4},
                                                         {in.sampling, 5 * sizeof(SamplingSpec)},
                                                         {in.seen_offsets, 6 * 4},
                                                         {in.bias_offsets, 6 * 4},
                                                         {in.chunk_ids, 9 * 4},
                                                         {in.biases, (99 + 3 * kMaxLogitBiases) * sizeof(LogitBias)},
                                                         {in.seen, 99 * sizeof(SeenToken)}};
  ModelDims dims;
  dims.hidden = 5;
  dims.mlp = 3;
  dims.heads = 2;
  dims.kv_heads = 1;
  dims.head_dim = 6;
  dims.vocab = 11;
  const ActivationLayout out = activation_layout(dims, capacity, DType::bf16);
  const std::vector<std::pair<size_t, size_t>> activations = {{out.x, 7 * 5 * 4},
                                                              {out.rope, 7 * 6 * 4},
                                                              {out.q, 7 * 12 * 2},
                                                              {out.attn, 7 * 12 * 2},
                                                              {out.ff, 7 * 3 * 2},
                                                              {out.logits, 5 * 11 * 4},
                                                              {out.sampled, 5 * sizeof(SampledToken)}};
  for (const auto& [arrays, bytes] : {std::pair{inputs, in.bytes}, std::pair{activations, out.bytes}}) {
    size_t end = 0;
    for (const auto& [offset, size] : arrays) {
      CHECK(offset >= end);
      CHECK(offset % kArrayAlignment == 0);
      end = offset + size;
    }
    CHECK(end <= bytes);
  }
}
