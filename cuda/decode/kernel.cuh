// Decoding one token of one sequence as a single kernel: every block walks through all layers, its weights arriving as one stream
// (stream.cuh), and exchanges vectors with the other blocks (edges.cuh). In a layer:
//
//   hidden -> QKV -> heads (to a key/value head's blocks) -> attention over the block's own positions -> partials (to the same blocks)
//   -> combination -> attention -> output product -> hidden -> gate_up -> mlp -> down -> hidden
//
// The residual stream's rows stay in float32 with the threads that own them. What is published is bf16(x * norm weight), rounded once, and
// the sum of squares of x along with it; 1 / rms scales the finished sums. So numerics are those of the ops one by one.
#pragma once

#include "cuda/decode/worker_attention.cuh"
#include "cuda/decode/worker_head.cuh"

namespace bolide::decode {

template <class S, bool kTimed>
__global__ void __launch_bounds__(kThreads + 128, 1) decode_kernel(const __grid_constant__ Parameters p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(128) char shared_bytes[];
  Shared<S>& sh = *reinterpret_cast<Shared<S>*>(shared_bytes);
  constexpr int kStages = Shared<S>::kStages;
  for (int i = threadIdx.x; i < p.layer_count * static_cast<int>(sizeof(Layer) / 8); i += blockDim.x)
    reinterpret_cast<uint64_t*>(sh.base.layers)[i] = reinterpret_cast<const uint64_t*>(p.layers)[i];
  if (threadIdx.x < kBlockClocks) sh.base.clocks[threadIdx.x] = 0;
  const int rank = blockIdx.x % kGroupBlocks, context = p.in.kv_lengths[0] - 1;
  const int blocks = context / S::kPositions + 1, own = (blocks - rank + kGroupBlocks - 1) / kGroupBlocks;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      init_barrier(sh.full[i], 1);
      init_barrier(sh.empty[i], kWarps);
    }
    init_barrier(sh.base.own_ready, 3);
    sh.base.own.count = own;
    sh.base.own.context = context;
    sh.base.own.slot_chunk = p.in.slots[0] / p.kv.chunk_tokens;
    sh.base.own.slot_offset = p.in.slots[0] % p.kv.chunk_tokens;
    publish_barriers();
  }
  __syncthreads();
  const bool with_head = p.in.counts->logit_rows > 0;
  if (threadIdx.x >= kThreads) {
    shrink_registers<40>();
    if (threadIdx.x == kThreads) {
      Producer<S, kStages>(p, sh.base.layers, sh.base.own, sh.ring, sh.full, sh.empty).run(with_head, &sh.base.own_ready);
    } else if (threadIdx.x >= kThreads + 32) {
      const int* chunk_ids = p.in.chunk_ids + p.in.chunk_offsets[0];
      for (int j = threadIdx.x - kThreads - 32; j < own; j += 96) {
        const int position = (rank + j * kGroupBlocks) * S::kPositions, chunk = chunk_ids[position / p.kv.chunk_tokens];
        const int64_t row = static_cast<int64_t>(chunk) * p.kv.kv_heads * 2 * p.kv.chunk_tokens + position % p.kv.chunk_tokens;
        sh.base.own.offset[j] = static_cast<int>(row / S::kPositions);
      }
      __syncwarp();
      if (threadIdx.x % 32 == 0) arrive(sh.base.own_ready);
    }
  } else {
    grow_registers<232>();
    Worker<S, kTimed>(p, sh.base, Ring<kStages>{sh.ring, sh.full, sh.empty, {}, {}}).run(with_head);
  }
#else
  __trap();  // decode_step.cpp asks whether code for sm_90a is there
#endif
}

}  // namespace bolide::decode
