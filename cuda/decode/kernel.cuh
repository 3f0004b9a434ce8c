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
#include "cuda/decode/worker_wide_heads.cuh"

namespace bolide::decode {

// What a warp does beside the workers where the kernel goes on by itself. epoch: at the start.
template <class S, int kRows>
__device__ inline void bring_steps(const Parameters& p, Steps<S, kRows>& sh, int rank, int lane, uint32_t epoch) {
  if constexpr (S::kGoesOn) {
    StepBringer<S, kRows>{p, sh, rank, lane}.run();
    if constexpr (kRows > 1) {
      while (!sh.stop) __nanosleep(200);
      age_words<S, kRows>(p.words, sh.rows, epoch + p.layer_count * (sh.workers_begun + 1), lane, 32);
    }
  }
}

// kRows: 1, or kFewerRows or kMaxRows for up to that many.
template <class S, int kRows, Probe kProbe>
__global__ void __launch_bounds__(kThreads + 128, 1) decode_kernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(128) char shared_bytes[];
  Shared<S, kRows>& sh = *reinterpret_cast<Shared<S, kRows>*>(shared_bytes);
  constexpr int kStages = Shared<S, kRows>::kStages;
  for (int i = threadIdx.x; i < p.layer_count * static_cast<int>(sizeof(Layer) / 8); i += blockDim.x)
    reinterpret_cast<uint64_t*>(sh.base.layers)[i] = reinterpret_cast<const uint64_t*>(p.layers)[i];
  if (threadIdx.x < kBlockClocks) sh.base.clocks[threadIdx.x] = 0;
  const int rank = blockIdx.x % S::kHeadBlocks, rows = kRows == 1 ? 1 : min(p.in.counts->tokens, kRows);
  begin_steps<S, kRows>(p, sh.base, rows, rank);
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
    // Read before any block can have come to the end, where the epoch changes.
    const uint32_t epoch = kRows == 1 ? 0 : *p.epoch;
    const int helper = static_cast<int>(threadIdx.x) - kThreads - 32;
    if (threadIdx.x == kThreads) {
      Producer<S, kStages, kRows, kProbe>(p, sh.base.layers, sh.base, sh.ring, sh.full, sh.empty).run();
    } else if (helper >= 0) {
      if (kProbe == Probe::delays) Delays(*p.epoch, static_cast<int>(threadIdx.x / 32)).sleep();
      find_own<S, kRows>(p.in, p.kv, own_of_stream(sh.base), rows, rank, helper, 96);
      __syncwarp();
      if (threadIdx.x % 32 == 0) arrive(sh.base.own_ready);
      if (S::kGoesOn && p.mailbox) {
        if (helper < 32) bring_steps<S, kRows>(p, sh.base, rank, helper, epoch);
      } else if (kRows > 1) {
        age_words<S, kRows>(p.words, rows, epoch + p.layer_count, helper, 96);
      }
    }
  } else {
    grow_registers<232>();
    const Ring<kStages> ring{sh.ring, sh.full, sh.empty, {}, {}};
    if constexpr (kRows == 1) {
      Worker<S, kProbe>(p, sh.base, ring).run(with_head);
    } else {
      RowsWorker<S, kRows, kProbe>(p, sh.base, ring).run();
    }
  }
#else
  __trap();  // decode_step.cpp asks whether code for sm_90a is there
#endif
}

}  // namespace bolide::decode
