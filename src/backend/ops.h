// The seven fused operations of a step: their argument structs, the dimension letters, and the numerics contract.
// C++17 and plain data, so that .cu files include it. Who implements an op: src/cpu/<op>.cpp, cuda/<op>.cu; who tests it:
// tests/ops/test_<op>.cpp.
//
// Dimension letters (one meaning in the whole project)
//   T  token rows of the step            S  sequences of the step        R  rows that need logits
//   D  model width (hidden size)         H  query heads                  Hkv  key/value heads
//   Dh head size                         F  MLP width                    V  vocabulary
//   C  tokens per KV chunk               L  layers                       Q = H * Dh, KV = Hkv * Dh
//
// Numerics contract
//   - Weights stay as stored (bf16, f16, f32) and are widened exactly; every product accumulates in float32.
//   - The residual stream x is float32. Norms, softmax, RoPE angles and activations are computed in float32.
//   - Activation buffers have the backend's activation dtype (CPU: f32; CUDA: bf16); rounding happens once, when an op stores its
//     output there. K and V are rounded once, when appended, to the KV dtype.
//   - Logits are float32. Greedy ties go to the lowest id. No fast-math.
//   - An op's result for a row depends on that row's sequence alone, never on its batch mates, up to float32 summation order.
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "core/activation.h"
#include "core/dtype.h"

namespace bolide {

class Matrix;   // a prepared weight matrix [N, K], private to the backend that prepared it
class KvCache;  // chunked K and V of all layers, private to the backend that allocated it

// Activations in backend memory, row-major.
struct ActivationBuffer {
  void* data = nullptr;
  DType dtype = DType::f32;
};

constexpr int kMaxStopIds = 8;

// How one logits row turns into a token, and what is reported about it.
struct SamplingSpec {
  float temperature = 0.0f;  // 0 = greedy
  int32_t top_k = 0;         // 0 = off
  float top_p = 1.0f;        // 1 = off
  float min_p = 0.0f;        // 0 = off
  float repetition_penalty = 1.0f;  // over prompt and output: logit > 0 ? logit / p : logit * p   (Keskar et al., arXiv:1909.05858)
  float presence_penalty = 0.0f;    // over output: - p once
  float frequency_penalty = 0.0f;   // over output: - p per occurrence
  uint64_t seed = 0;         // random numbers are keyed by (seed, sequence, position), see core/philox.h
  uint64_t sequence = 0;
  uint32_t position = 0;     // of the token being drawn
  int32_t target = -1;       // >= 0: draw nothing, report this id's log-probability (prompt log-probabilities)
  int32_t allowed_vocab = 0; // ids >= this are never drawn (ids without text); 0 = V
  int32_t top_logprobs = -1; // -1: no log-probabilities wanted; n >= 0: of the token and of the n most probable ids
  // Ids behind which nobody wants what this row's sequence would draw next, the rest below 0: a backend that works on its own may leave out a
  // later step of that row alone, whose token is then -1. Where more ids end a sequence than fit, there are none.
  int32_t stop_ids[kMaxStopIds] = {-1, -1, -1, -1, -1, -1, -1, -1};
};

// A token seen before, for penalties.
struct SeenToken {
  int32_t id;
  int32_t output_count;  // occurrences in the output; 0 = in the prompt only
};
struct LogitBias {
  int32_t id;
  float bias;
};

constexpr int kMaxTopLogprobs = 20;

// What sampling reports per row. Log-probabilities are log_softmax of the unmodified logits (before penalties, bias,
// temperature and masks), in float32 or better.
struct SampledToken {
  int32_t id = -1;
  float logprob = 0.0f;      // valid when top_logprobs >= 0
  int32_t top_count = 0;
  int32_t top_ids[kMaxTopLogprobs];      // most probable first; ties: lowest id first
  float top_logprobs[kMaxTopLogprobs];
};

// Lengths of the current step. Lives in backend memory: kernels read it there and leave early, launch geometry follows StepCapacity.
struct StepCounts {
  int32_t tokens;      // T
  int32_t sequences;   // S
  int32_t logit_rows;  // R
};

// Upper bounds that buffers (and launches) are sized for.
struct StepCapacity {
  int32_t tokens = 0;
  int32_t sequences = 0;
  int32_t logit_rows = 0;
  int32_t chunk_ids = 0;     // entries of all chunk tables of a step
  int32_t seen_tokens = 0;   // entries of all penalty histories of a step
  int32_t logit_biases = 0;
};

// The step's inputs, in backend memory at pointers that never change. Rows of one sequence are consecutive and in order of position.
struct StepInputs {
  StepCounts* counts = nullptr;
  int32_t* token_ids = nullptr;      // [T]
  int32_t* positions = nullptr;      // [T] position in the sequence, from 0
  int32_t* row_sequences = nullptr;  // [T] s of each row
  int32_t* slots = nullptr;          // [T] chunk id * C + offset: where the row's K and V go
  int32_t* query_offsets = nullptr;  // [S + 1] first row of each sequence
  int32_t* kv_lengths = nullptr;     // [S] tokens of the sequence in the cache once this step has appended its rows
  int32_t* chunk_offsets = nullptr;  // [S + 1] CSR into chunk_ids
  int32_t* chunk_ids = nullptr;      // chunk of positions [i * C, (i + 1) * C)
  int32_t* logit_rows = nullptr;     // [R] row of x each logits row comes from
  SamplingSpec* sampling = nullptr;  // [R]
  int32_t* seen_offsets = nullptr;   // [R + 1] CSR into seen
  SeenToken* seen = nullptr;
  int32_t* bias_offsets = nullptr;   // [R + 1] CSR into biases
  LogitBias* biases = nullptr;
};

// x[t] = table[token_ids[t]] * scale; rope[t] = (cos, sin)(positions[t] * inverse_frequencies[i]).
// Also prepares what all layers of the step share. A token id -1 - r stands for row r of `previous`, which the step before drew: ids go from
// step to step without the host.
struct EmbedArgs {
  const StepInputs* in;
  const Matrix* table;                 // [V, D]
  float scale;
  const float* inverse_frequencies;    // [Dh / 2] f32
  float* x;                            // [T, D] f32, out
  float* rope;                         // [T, Dh / 2, 2] f32, out: cosine and sine
  int32_t hidden, head_dim;
  const SampledToken* previous = nullptr;  // [R of the step before]
};

// n = rmsnorm(x) * norm; (q, k, v) = n * W^T + bias; q, k = rmsnorm per head (if given); RoPE on q and k; K and V appended to their slots.
struct NormQkvArgs {
  const StepInputs* in;
  const float* x;        // [T, D] f32
  const float* norm;     // [D] f32, architecture's offset included
  float norm_eps;
  const Matrix* qkv;     // [Q + 2 KV, D]: q rows, then k rows, then v rows
  const float* bias;     // [Q + 2 KV] f32 or null
  const float* q_norm;   // [Dh] f32 or null
  const float* k_norm;   // [Dh] f32 or null
  const float* rope;     // [T, Dh / 2, 2] f32
  ActivationBuffer q;    // [T, H, Dh], out
  KvCache* kv;           // out: slots of this layer
  int32_t layer, hidden, heads, kv_heads, head_dim;
};

// out[t, h] = softmax(scale * q[t, h] . K) V over the row's own sequence, causal, GQA (head h reads kv head h / (H / Hkv));
// window > 0: only the last `window` positions, the row's own included.
struct AttentionArgs {
  const StepInputs* in;
  ActivationBuffer q;    // [T, H, Dh]
  const KvCache* kv;
  ActivationBuffer out;  // [T, H, Dh], out
  float scale;
  int32_t window, layer, heads, kv_heads, head_dim;
};

// x += h * W^T + bias: the attention output and the MLP's down product.
struct ProjectAddArgs {
  const StepInputs* in;
  ActivationBuffer h;    // [T, K]
  const Matrix* weight;  // [D, K]
  const float* bias;     // [D] f32 or null
  float* x;              // [T, D] f32, in and out
  int32_t layer;         // for errors and profiles
};

// n = rmsnorm(x) * norm; out = activation(n * Wgate^T + bg) * (n * Wup^T + bu).
struct NormGateUpArgs {
  const StepInputs* in;
  const float* x;          // [T, D] f32
  const float* norm;       // [D] f32
  float norm_eps;
  const Matrix* gate_up;   // [2 F, D]: gate rows, then up rows
  const float* bias;       // [2 F] f32 or null
  GatedActivation activation;
  ActivationBuffer out;    // [T, F], out
  int32_t layer, hidden, mlp;
};

// logits[r] = (rmsnorm(x[logit_rows[r]]) * norm) * Whead^T.
struct LogitsArgs {
  const StepInputs* in;
  const float* x;        // [T, D] f32
  const float* norm;     // [D] f32
  float norm_eps;
  const Matrix* head;    // [V, D]
  float* logits;         // [R, V] f32, out
  int32_t hidden, vocab;
};

// One token (or the target's log-probability) per logits row: penalties and bias, then temperature, top-k, top-p, min-p in that order
// (transformers' order), then the Gumbel-max draw over what is left: argmax of logit / T - log(-log u), u = sampling_uniform(id).
struct SampleArgs {
  const StepInputs* in;
  float* logits;         // [R, V] f32; unchanged
  SampledToken* out;     // [R], out
  int32_t vocab;
};

constexpr float kPlainTemperature = 1e-3f;

using Op = std::variant<EmbedArgs, NormQkvArgs, AttentionArgs, ProjectAddArgs, NormGateUpArgs, LogitsArgs, SampleArgs>;

// The keys and values, in all layers, of the first `tokens` tokens of chunk `from` become those of chunk `to`.
struct ChunkCopy {
  int32_t from, to;
  int32_t tokens;  // 1 to C
};

// A forward pass: built once per model and capacity, run as often as wanted with other inputs behind the same pointers.
struct Step {
  std::vector<Op> ops;
  StepCapacity capacity;
  // What is known of a run's inputs on the host. Every row draws a token that nothing but a temperature (0, or at least kPlainTemperature)
  // shapes, and no log-probabilities are asked for.
  bool plain_sampling = false;
  // Every sequence has one row, which draws: tokens, sequences and logits rows are as many, and in the same order.
  bool one_row_each = false;
  int32_t longest_sequence = 0;  // largest of kv_lengths
  int64_t context_tokens = 0;    // their sum
  // Of a run, too: done before its ops and after the steps before. No chunk is written by one copy and named by another.
  KvCache* kv = nullptr;
  std::vector<ChunkCopy> copies;
};

}  // namespace bolide
