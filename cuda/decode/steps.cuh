// What a block has of a step's inputs; and how it comes to the next step's without a launch.
//
// The host writes the inputs of the next step beside the kernel, and behind them the step's number. A warp that has nothing else to do
// looks for the number (StepBringer), makes of the inputs what the block needs, and says so at a barrier in shared memory. Block 0, before
// it publishes its best logit of the step under way, looks whether its own warp has come that far, and publishes the answer beside the
// logit. So all blocks find the token and that answer in the same words, and go on or leave alike. The stream begins the next step as soon
// as its inputs are there, and asks whether the workers have followed when the ring is full of it: where they have not, it waits for what
// is still on its way into shared memory, and ends.
#pragma once

#include "cuda/decode/edges.cuh"
#include "cuda/decode/turns.h"

namespace bolide::decode {

// Of the step under way, for the workers.
template <int kRows>
struct StepNow {
  int32_t tokens[kRows];  // below 0 in what StepBringer leaves: the row's that the step before drew
  int32_t positions[kRows];
  OwnCounts<kRows> own;
  uint32_t number;
  int32_t at;  // steps of the launch before it
  SampledToken* out;
};
template <int kRows>
constexpr int kStepWords = static_cast<int>(sizeof(StepNow<kRows>) / 4);
constexpr int kSpecWords = static_cast<int>(sizeof(SamplingSpec) / 4);

// How a row's token is drawn.
struct RowSampling {
  uint64_t seed, sequence;
  uint32_t position;
  float temperature;
  int allowed;  // ids below it may be drawn
  bool plain;   // nothing but temperature shapes the distribution

  // spec: the row's, or a copy of it.
  __device__ RowSampling(const Parameters& p, const SamplingSpec& spec, int row)
      : seed(spec.seed),
        sequence(spec.sequence),
        position(spec.position),
        temperature(spec.temperature),
        allowed(spec.allowed_vocab > 0 ? min(spec.allowed_vocab, p.vocab) : p.vocab),
        plain(p.alone ||
              (spec.target < 0 && spec.top_logprobs < 0 && p.in.seen_offsets[row + 1] == p.in.seen_offsets[row] &&
               p.in.bias_offsets[row + 1] == p.in.bias_offsets[row] &&
               (!(spec.temperature > 0.0f) || !((spec.top_k > 0 && spec.top_k < p.vocab) || spec.top_p < 1.0f || spec.min_p > 0.0f)))) {}
};

// In kernels that go on by themselves there are two sets of a step's inputs, of even and odd steps of the launch: one is used while the
// next step's is made.
template <int kRows, bool kGoesOn>
struct StepSets {
  static constexpr int kSets = 2;
  StepNow<kRows> step[kSets];
  SamplingSpec sampling[kSets][kRows];
};
template <int kRows>
struct StepSets<kRows, false> {
  static constexpr int kSets = 1;
};
template <int kRows, bool kGoesOn>
struct StepShared : StepSets<kRows, kGoesOn> {
  using StepSets<kRows, kGoesOn>::kSets;
  int rows;  // of every step of the launch
  StepNow<kRows> now;
  OwnBlocks<kRows, kGoesOn> own[kSets];  // for the stream
  uint64_t own_ready;                    // own[0] of the first step
  uint64_t next_ready;                   // a set of each step behind it
  volatile int workers_begun;            // step of the launch that the workers are at, ...
  volatile int stream_begun;             // ... and the stream,
  volatile int stream_layers;            // of which it has so many in a step, the head as one of them,
  volatile int stream_place;             // from this place in the ring on: stage << 1 | parity
  volatile int stop;                     // the workers have left
  volatile int stalled;                  // a wait was given up
  int32_t drawn[kRows];                  // several rows' tokens, below 0 where there is none
  int next_is_there;                     // what block 0 has said of the next step
  int goes_on;
};
template <class S, int kRows>
using Steps = StepShared<kRows, S::kGoesOn>;

template <int kRows, bool kGoesOn>
__device__ inline OwnBlocks<kRows, kGoesOn>& own_of_stream(StepShared<kRows, kGoesOn>& sh) {
  return sh.own[kGoesOn ? sh.stream_begun & 1 : 0];
}

// What the block owns of a row's context but for where it lies, and where its new position goes.
template <class S, int kRows>
__device__ inline void count_own(const StepInputs& in, const KvView& kv, OwnCounts<kRows>& own, int rows, int rank) {
  own.first[0] = own.most = 0;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (row >= rows) break;
    const int slot = in.slots[row];
    if (S::kBlocksOfRow && kRows > 1 && rank / S::row_blocks(kRows) != row)
      skip_row(own, row, in.kv_lengths[row] - 1);
    else
      add_row<S::row_blocks(kRows)>(own, rank, row, in.kv_lengths[row] - 1, S::kPositions);
    own.slot_chunk[row] = slot / kv.chunk_tokens;
    own.slot_offset[row] = slot % kv.chunk_tokens;
  }
}
// Where it lies, by `threads` threads.
template <class S, int kRows>
__device__ inline void find_own(const StepInputs& in, const KvView& kv, OwnBlocks<kRows, S::kGoesOn>& own, int rows, int rank, int thread,
                                int threads) {
  for (int row = 0; row < rows; ++row) {
    const int* chunk_ids = in.chunk_ids + in.chunk_offsets[row];
    for (int j = own.first[row] + thread; j < own.first[row + 1]; j += threads) {
      const int position = (rank_in_row<S::row_blocks(kRows)>(rank, row) + (j - own.first[row]) * S::row_blocks(kRows)) * S::kPositions;
      const int64_t at =
          static_cast<int64_t>(chunk_ids[position / kv.chunk_tokens]) * kv.kv_heads * 2 * kv.chunk_tokens + position % kv.chunk_tokens;
      own.offset[j] = static_cast<int>(at / S::kPositions);
    }
  }
}
// The launch's first step, by all threads of the block. Behind it lies a __syncthreads.
template <class S, int kRows>
__device__ inline void begin_steps(const Parameters& p, Steps<S, kRows>& sh, int rows, int rank) {
  const int thread = threadIdx.x, row = thread - 32, word = thread - 64;
  if (thread == 0) {
    count_own<S, kRows>(p.in, p.kv, sh.own[0], rows, rank);
    sh.now.own = sh.own[0];
    sh.rows = rows;
    sh.now.number = p.mailbox ? p.mailbox->first : 0;
    sh.now.at = 0;
    sh.now.out = p.out;
    sh.stream_layers = p.layer_count + (p.in.counts->logit_rows > 0 ? 1 : 0);
    sh.workers_begun = sh.stream_begun = sh.stop = sh.stalled = 0;
    init_barrier(sh.next_ready, 1);
  }
  if (row >= 0 && row < rows) {
    const int32_t given = p.in.token_ids[row];
    sh.now.tokens[row] = given < 0 && p.previous ? p.previous[-1 - given].id : given;
    sh.now.positions[row] = p.in.positions[row];
  }
  if constexpr (S::kGoesOn) {
    if (word < 0) return;
    for (int i = word; i < rows * kSpecWords; i += static_cast<int>(blockDim.x) - 64)
      reinterpret_cast<uint32_t*>(&sh.sampling[0])[i] = reinterpret_cast<const uint32_t*>(p.in.sampling)[i];
  }
}
// The next step of the launch, which StepBringer has made, becomes the one under way; by a warp. drawn: the token of row `lane`.
template <int kRows>
__device__ inline void begin_next(StepShared<kRows, true>& sh, int32_t drawn, int lane) {
  const int set = (sh.now.at + 1) & 1;
#pragma unroll
  for (int i = lane; i < kStepWords<kRows>; i += 32) {
    const int32_t word = reinterpret_cast<const int32_t*>(&sh.step[set])[i];
    reinterpret_cast<int32_t*>(&sh.now)[i] = i < kRows && word < 0 ? drawn : word;
  }
}

__device__ inline uint32_t load_number(const uint32_t* from) {
  uint32_t v;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
  return v;
}
// Of a row to the host. ordered: behind the reports that this thread knows of.
__device__ inline void store_outcome(uint64_t* outcomes, int row, uint32_t number, StepEnd end, int32_t id, bool ordered) {
  if (ordered) __threadfence_system();
  const uint64_t v = static_cast<uint64_t>(number) << 32 | static_cast<uint32_t>(end) << 30 | (static_cast<uint32_t>(id) & 0x3fffffff);
  asm volatile("st.relaxed.sys.global.b64 [%0], %1;" ::"l"(outcomes + number % kOutcomes * kMaxRows + row), "l"(v) : "memory");
}

// A warp that makes the block's part of the inputs of every step behind the launch's first.
template <class S, int kRows>
struct StepBringer {
  const Parameters& p;
  Steps<S, kRows>& sh;
  const int rank, lane;

  // Whether the step's inputs are there and nobody uses the set any more that they go to; false when the workers have left.
  __device__ bool arrives(int at, uint32_t number) const {
    int left = 0;
    if (lane == 0) {
      while (!(left = sh.stop)) {
        const bool free = sh.workers_begun >= at - 1 && sh.stream_begun >= at - 1;
        if (free && static_cast<int32_t>(load_number(&p.mailbox->posted) - number) >= 0) break;
        __nanosleep(500);
      }
    }
    // Reads behind the number's: the fence also drops what this multiprocessor's first cache has of the inputs of two steps before.
    asm volatile("fence.acq_rel.sys;" ::: "memory");
    return !__shfl_sync(kAllLanes, left, 0);
  }
  // Several rows: whether each is the sequence that the step before has in that place. Only then has the block itself written what it
  // would read of the sequence's last positions, and no row's words are those of a step before the last.
  __device__ bool follows(const StepInputs& in) const {
    if (kRows == 1) return true;
    const bool differs = lane < sh.rows ? in.token_ids[lane] != -1 - lane : lane == 31 && in.counts->tokens != sh.rows;
    return !__any_sync(kAllLanes, differs);
  }
  // Until the workers leave, or a step cannot be taken over.
  __device__ void run() const {
    const uint32_t first = p.mailbox->first;
    const int rows = kRows == 1 ? 1 : sh.rows;
    for (int at = 1; at < p.most_steps; ++at) {
      if (!arrives(at, first + at)) break;
      const PostedStep& next = p.mailbox->places[(first + at) % 2];
      const StepInputs in = next.in;
      if (!follows(in)) break;
      const int set = at & 1;
      StepNow<kRows>& step = sh.step[set];
      if (lane < rows) step.tokens[lane] = in.token_ids[lane], step.positions[lane] = in.positions[lane];
      if (lane == 0) {
        count_own<S, kRows>(in, p.kv, sh.own[set], rows, rank);
        step.own = sh.own[set];
        step.number = first + at;
        step.at = at;
        step.out = next.out;
      }
      for (int i = lane; i < rows * kSpecWords; i += 32)
        reinterpret_cast<uint32_t*>(&sh.sampling[set])[i] = reinterpret_cast<const uint32_t*>(in.sampling)[i];
      __syncwarp();
      find_own<S, kRows>(in, p.kv, sh.own[set], rows, rank, lane, 32);
      __syncwarp();
      if (lane == 0) arrive(sh.next_ready);
    }
  }
};

}  // namespace bolide::decode
