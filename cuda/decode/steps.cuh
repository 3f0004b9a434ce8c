// What a block has of a step's inputs; and, in the kernel for one row, how it comes to the next step's without a launch.
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
struct StepNow {
  int32_t token;  // below 0 in what StepBringer leaves: the one that the step before drew
  int32_t position;
  int32_t context;  // positions before the new one
  int32_t blocks;   // of positions that the block owns
  int32_t slot_chunk, slot_offset;
  uint32_t number;
  int32_t at;  // steps of the launch before it
  SampledToken* out;
};
constexpr int kStepWords = static_cast<int>(sizeof(StepNow) / 4), kSpecWords = static_cast<int>(sizeof(SamplingSpec) / 4);

template <int kRows>
struct StepShared {
  OwnBlocks<kRows> own;
  uint64_t own_ready;
  int rows;
};
template <>
struct StepShared<1> {
  StepNow now;
  // Of even and odd steps of the launch: one set is used while the next step's is made.
  OwnBlocks<1> own[2];
  StepNow step[2];
  SamplingSpec sampling[2];
  uint64_t own_ready;          // own[0] of the first step
  uint64_t next_ready;         // a set of each step behind it
  volatile int workers_begun;  // step of the launch that the workers are at, ...
  volatile int stream_begun;   // ... and the stream,
  volatile int stream_place;   // from this place in the ring on: stage << 1 | parity
  volatile int stop;           // the workers have left
  volatile int stalled;        // a wait was given up
  int goes_on;
};

template <int kRows>
__device__ inline OwnBlocks<kRows>& own_of_stream(StepShared<kRows>& sh) {
  if constexpr (kRows == 1)
    return sh.own[sh.stream_begun & 1];
  else
    return sh.own;
}

// What the block owns of a row's context but for where it lies, and where its new position goes.
template <class S, int kRows>
__device__ inline void count_own(const StepInputs& in, const KvView& kv, OwnBlocks<kRows>& own, int rows, int rank) {
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
__device__ inline void find_own(const StepInputs& in, const KvView& kv, OwnBlocks<kRows>& own, int rows, int rank, int thread,
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
// The one row's step in the workers' form.
__device__ inline StepNow step_of(const StepInputs& in, const OwnBlocks<1>& own, int32_t token, SampledToken* out, uint32_t number,
                                  int at) {
  return {token, in.positions[0], own.context[0], own.first[1], own.slot_chunk[0], own.slot_offset[0], number, at, out};
}

__device__ inline uint32_t load_number(const uint32_t* from) {
  uint32_t v;
  asm volatile("ld.relaxed.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
  return v;
}
// To the host. ordered: behind this thread's reports.
__device__ inline void store_outcome(uint64_t* to, uint32_t number, StepEnd end, int32_t id, bool ordered) {
  if (ordered) __threadfence_system();
  const uint64_t v = static_cast<uint64_t>(number) << 32 | static_cast<uint32_t>(end) << 30 | (static_cast<uint32_t>(id) & 0x3fffffff);
  asm volatile("st.relaxed.sys.global.b64 [%0], %1;" ::"l"(to + number % kOutcomes), "l"(v) : "memory");
}

// A warp that makes the block's part of the inputs of every step behind the launch's first.
template <class S>
struct StepBringer {
  const Parameters& p;
  StepShared<1>& sh;
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
  __device__ void run() const {
    const uint32_t first = p.mailbox->first;
    for (int at = 1; at < p.most_steps; ++at) {
      if (!arrives(at, first + at)) break;
      const int set = at & 1;
      const PostedStep& next = p.mailbox->places[(first + at) % 2];
      const StepInputs in = next.in;
      if (lane == 0) {
        count_own<S, 1>(in, p.kv, sh.own[set], 1, rank);
        sh.step[set] = step_of(in, sh.own[set], in.token_ids[0], next.out, first + at, at);
      }
      for (int i = lane; i < kSpecWords; i += 32)
        reinterpret_cast<uint32_t*>(&sh.sampling[set])[i] = reinterpret_cast<const uint32_t*>(in.sampling)[i];
      __syncwarp();
      find_own<S, 1>(in, p.kv, sh.own[set], 1, rank, lane, 32);
      __syncwarp();
      if (lane == 0) arrive(sh.next_ready);
    }
  }
};

}  // namespace bolide::decode
