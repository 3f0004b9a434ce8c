// The decode kernel's parameters: one token each of one sequence or of up to kMaxRows, all layers in one launch. C++17 and plain data.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include "cuda/context.h"

namespace bolide::decode {

constexpr int kBlocks = 128;  // thread blocks, one to a multiprocessor, all resident at once
constexpr int kWarps = 8;     // of a block that compute; one thread more brings weights, K and V
constexpr int kThreads = 32 * kWarps;
constexpr int kStageColumns = 1024;  // of k: a stage of the stream holds 8 rows of a weight matrix that wide (or K and V)
constexpr int kMostStages = 13;      // of the stream that are in shared memory at once
constexpr int kHeadGroups = 8;       // key/value heads of most shapes: each is one group of blocks' work
constexpr int kGroupBlocks = kBlocks / kHeadGroups;
constexpr int kMaxLayers = 64;
// Sequences of a step, one row each, that a kernel for several takes: the columns of the tensor cores' fragments, a warp's attention for
// each. With up to kFewerRows two warps share a row's attention, in a kernel of its own.
constexpr int kMaxRows = 8, kFewerRows = 4;
// How many rows the kernel takes that runs a step of so many.
constexpr int rows_of_kernel(int rows) { return rows == 1 ? 1 : rows <= kFewerRows ? kFewerRows : kMaxRows; }
// Blocks of positions that a thread block can own, see stream.cuh: of one sequence, or of all together. Fewer where a kernel that goes on
// by itself has them twice.
constexpr int max_own_blocks(int rows, bool goes_on) { return rows == 1 ? 512 : rows == kMaxRows || goes_on ? 1040 : 2048; }
// Words of the edges that the kernel for one row and that for several have memory for. Shapes with the most of them for one row are those
// in which 128 blocks share a head of 256; those have few for each of several.
constexpr int kMostWords = 3 << 16, kMostRowsWords = kMaxRows * (3 << 15);

// Weights are bf16, row-major and without gaps; vectors are f32, null where the model has none.
struct Layer {
  const __nv_bfloat16* matrices[4];  // in the order of their use: QKV, output, gate and up, down; [Q + 2 KV, D], [D, Q], [2 F, D], [D, F]
  const float *input_norm, *post_norm;  // [D]
  const float *q_norm, *k_norm;         // [Dh]
  const float *qkv_bias, *output_bias, *gate_up_bias, *down_bias;
  const float* next_norm;  // [D] of the next layer's attention, or the final norm
  int32_t window;
  int32_t reserved = 0;
};

// How a kernel goes on to the next step by itself (run_on.h). Steps that may come so have numbers, in the order of their run.
struct PostedStep {
  StepInputs in;
  SampledToken* out;
};
// In device memory, written by the host.
struct Mailbox {
  uint32_t first;        // the step that the kernel was launched for
  uint32_t posted;       // the last step that a kernel under way may take over: written behind its inputs
  PostedStep places[2];  // of a posted step: by its number modulo 2
};
// What the host gets to know of step n, in a word for each row at n modulo kOutcomes: number << 32 | StepEnd << 30 | token id. The end is
// the same for all rows, also for those of the kernel that the step does not have.
constexpr int kOutcomes = 8;
enum class StepEnd : uint32_t {
  leaves,   // the step behind it needs a launch of its own
  goes_on,  // the kernel takes it over
  stops,    // the only row's token is one of its stop ids: nobody wants a step behind it
  broken,   // there is no token, and the kernel ends with a report
};

struct Parameters {
  StepInputs in;
  const Layer* layers;  // [layer_count] in device memory
  int32_t layer_count;
  const __nv_bfloat16* table;        // [V, D]
  const __nv_bfloat16* head;         // [V, D]
  const SampledToken* previous;      // of the step before, for ids below 0; may be null
  const float* inverse_frequencies;  // [Dh / 2]
  float embed_scale, norm_eps, softmax_scale;
  GatedActivation activation;
  int32_t vocab;
  float* logits;      // [rows, V], out; several rows: unspecified where `alone`
  SampledToken* out;  // [rows], out, where *drawn says so
  bool alone;         // sample() does not follow: the host knows that temperature alone shapes the distribution
  int32_t* drawn;     // out: 1 when the kernel has drawn all rows' tokens itself, 0 when sample has to
  KvView kv;
  uint64_t* words;  // [Shape::kWords], see edges.cuh; several rows: [RowWords::kWords], see rows_words.cuh
  uint32_t* epoch;  // counts layers over all launches
  DeviceFault* fault;
  int32_t pace, head_pace;  // clocks from one copy of 2 KB to the next, in the layers and in the head
  long long* clocks;        // null, or [kAllClocks] to add to
  // Null: the kernel ends with its step. Only where `alone`.
  const Mailbox* mailbox;
  uint64_t* outcomes;  // [kOutcomes][kMaxRows] in host memory
  int32_t most_steps;  // of a launch
  // Under test alone: 0 or loss_of(); and where the words go that are left out, [as many as there are in `words`].
  uint32_t loss;
  uint64_t* lost_words;
};

// What a block does, in this order in every layer but for the head; and what of it its first warp's clocks are counted under.
enum Phase { qkv_product, attention, combination, output_product, gate_up_product, down_product, head_product, kPhases };
enum Part { waiting, loading, computing, kParts };
constexpr const char* kPhaseNames[kPhases + 3] = {
    "QKV product",  "attention", "combination of its parts", "output product",     "gate and up product",
    "down product", "head",      "stream of weights",        "room in the stream", "inputs of the next step"};
// Only of reports: waiting for a copy, for a free slot, for what a block has of the next step. They know no layer, and what they wait for
// may be lacking for want of words: among reports they come last.
constexpr uint32_t kNoLayer = 0xff;
constexpr uint32_t kStreamPhase = kNoLayer << 8 | kPhases, kRoomPhase = kStreamPhase + 1, kInputsPhase = kStreamPhase + 2;
// Under test (Probe::losses): the words that a block publishes in a phase of a layer, which are left out. The head's layer: layer_count.
__host__ __device__ constexpr uint32_t loss_of(int block, int layer, Phase phase) {
  return 1u << 31 | static_cast<uint32_t>(block) << 16 | static_cast<uint32_t>(layer) << 8 | phase;
}
// A block's clocks: [kPhases][kParts]. Behind those of all blocks, block 0's nanoseconds and clocks of whole kernels.
constexpr int kBlockClocks = static_cast<int>(kPhases) * static_cast<int>(kParts), kAllClocks = kBlocks * kBlockClocks + 2;

}  // namespace bolide::decode
