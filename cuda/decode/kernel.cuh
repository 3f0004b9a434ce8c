// Decoding one token of one sequence, or one each of a few, as a single kernel: every block walks through all layers, its weights arriving
// as one stream (stream.cuh), and exchanges vectors with the other blocks (edges.cuh). In a layer:
//
//   hidden -> QKV -> heads (to a key/value head's blocks) -> attention over the block's own positions -> partials (to the same blocks)
//   -> combination -> attention -> output product -> hidden -> gate_up -> mlp -> down -> hidden
//
// The residual stream's rows stay in float32 with the threads that own them. What is published is bf16(x * norm weight), rounded once, and
// the sum of squares of x along with it; 1 / rms scales the finished sums. So numerics are those of the ops one by one.
#pragma once

#include "cuda/decode/rows_attention.cuh"
#include "cuda/decode/rows_head.cuh"
#include "cuda/decode/worker_attention.cuh"
#include "cuda/decode/worker_head.cuh"

namespace bolide::decode {

// What the block owns of each row's context but for where it lies, by thread 0.
template <class S, int kRows>
__device__ inline void count_own(const Parameters& p, OwnBlocks<kRows>& own, int rows, int rank) {
  if (threadIdx.x != 0) return;
  own.first[0] = own.most = 0;
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    if (row >= rows) break;
    const int slot = p.in.slots[row];
    add_row(own, rank, row, p.in.kv_lengths[row] - 1, S::kPositions);
    own.slot_chunk[row] = slot / p.kv.chunk_tokens;
    own.slot_offset[row] = slot % p.kv.chunk_tokens;
  }
}
// Where it lies, by `threads` threads.
template <class S, int kRows>
__device__ inline void find_own(const Parameters& p, OwnBlocks<kRows>& own, int rows, int rank, int thread, int threads) {
  for (int row = 0; row < rows; ++row) {
    const int* chunk_ids = p.in.chunk_ids + p.in.chunk_offsets[row];
    for (int j = own.first[row] + thread; j < own.first[row + 1]; j += threads) {
      const int position = (rank_in_row(rank, row) + (j - own.first[row]) * kGroupBlocks) * S::kPositions;
      const int64_t at = static_cast<int64_t>(chunk_ids[position / p.kv.chunk_tokens]) * p.kv.kv_heads * 2 * p.kv.chunk_tokens +
                         position % p.kv.chunk_tokens;
      own.offset[j] = static_cast<int>(at / S::kPositions);
    }
  }
}

// kRows: 1, or kMaxRows for up to that many.
template <class S, int kRows, Probe kProbe>
__global__ void __launch_bounds__(kThreads + 128, 1) decode_kernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(128) char shared_bytes[];
  Shared<S, kRows>& sh = *reinterpret_cast<Shared<S, kRows>*>(shared_bytes);
  constexpr int kStages = Shared<S, kRows>::kStages;
  for (int i = threadIdx.x; i < p.layer_count * static_cast<int>(sizeof(Layer) / 8); i += blockDim.x)
    reinterpret_cast<uint64_t*>(sh.base.layers)[i] = reinterpret_cast<const uint64_t*>(p.layers)[i];
  if (threadIdx.x < kBlockClocks) sh.base.clocks[threadIdx.x] = 0;
  const int rank = blockIdx.x % kGroupBlocks, rows = kRows == 1 ? 1 : min(p.in.counts->tokens, kRows);
  count_own<S, kRows>(p, sh.base.own, rows, rank);
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(sh.full[i], 1);
      init_barrier(sh.empty[i], kWarps);
    }
    init_barrier(sh.base.own_ready, 3);
    publish_barriers();
  }
  __syncthreads();
  const bool with_head = p.in.counts->logit_rows > 0;
  if (threadIdx.x >= kThreads) {
    shrink_registers<40>();
    if (threadIdx.x == kThreads) {
      Producer<S, kStages, kRows, kProbe>(p, sh.base.layers, sh.base.own, rows, sh.ring, sh.full, sh.empty)
          .run(with_head, &sh.base.own_ready);
    } else if (threadIdx.x >= kThreads + 32) {
      if (kProbe == Probe::delays) Delays(*p.epoch, static_cast<int>(threadIdx.x / 32)).sleep();
      find_own<S, kRows>(p, sh.base.own, rows, rank, threadIdx.x - kThreads - 32, 96);
      __syncwarp();
      if (threadIdx.x % 32 == 0) arrive(sh.base.own_ready);
      if (kRows > 1) age_words(p.words + rows * S::kWords, (kRows - rows) * S::kWords, *p.epoch, threadIdx.x - kThreads - 32, 96);
    }
  } else {
    grow_registers<232>();
    const Ring<kStages> ring{sh.ring, sh.full, sh.empty, {}, {}};
    if constexpr (kRows == 1) {
      Worker<S, kProbe>(p, sh.base, ring).run(with_head);
    } else {
      RowsWorker<S, kProbe>(p, sh.base, ring, rows).run();
    }
  }
#else
  __trap();  // decode_step.cpp asks whether code for sm_90a is there
#endif
}

}  // namespace bolide::decode
