// What the computing threads of the kernel for one row and of that for several have in common.
#pragma once

#include <type_traits>

#include "cuda/decode/probe.cuh"
#include "cuda/decode/shared.cuh"

namespace bolide::decode {

// kRows: 1, kFewerRows or kMaxRows. kProbe: see probe.cuh.
template <class S, int kRows, Probe kProbe>
struct WorkerBase {
  static constexpr int kStages = Shared<S, kRows>::kStages;
  const Parameters& given;
  std::conditional_t<kProbe == Probe::losses, Parameters, const Parameters&> p;  // a copy where `words` change, see lose()
  SharedBase<S, kRows>& sh;
  Ring<kStages> ring;
  int warp, lane;
  const int block, group, rank;
  uint32_t base_epoch = 0;
  int parity = 0;  // of sh.sums
  long long last = 0;
  Delays delays;
  int marked_layer = 0;  // under Probe::losses

  __device__ WorkerBase(const Parameters& parameters, SharedBase<S, kRows>& shared, const Ring<kStages>& r)
      : given(parameters),
        p(parameters),
        sh(shared),
        ring(r),
        warp(threadIdx.x / 32),
        lane(threadIdx.x % 32),
        block(blockIdx.x),
        group(block / S::kHeadBlocks),
        rank(block % S::kHeadBlocks),
        delays(kProbe == Probe::delays ? *p.epoch : 0, warp) {}

  // At the start of a layer or a phase: what the compiler knows of these ends here. Else it makes the addresses of all phases' words ahead
  // of the layers, and keeps in local memory what registers do not hold of them.
  __device__ void forget_places() { asm volatile("" : "+r"(warp), "+r"(lane), "+r"(parity)); }

  __device__ void mark(Phase phase, Part part) {
    if (kProbe == Probe::delays) delays.sleep();
    if constexpr (kProbe == Probe::losses) lose(phase, part);
    if (kProbe != Probe::clocks || threadIdx.x != 0) return;
    const long long now = clock64();
    sh.clocks[phase * kParts + part] += now - last;
    last = now;
  }
  // Between the end of a phase's wait and that of its work the block publishes, and reads none of the edges: what is to be lost goes where
  // nobody looks. (The head publishes behind its last product.)
  __device__ void lose(Phase phase, Part part) {
    if (phase == qkv_product && marked_layer == p.layer_count) marked_layer = 0;  // of the next step
    const bool lost = given.loss == loss_of(block, marked_layer, phase) && part == (phase == head_product ? computing : waiting);
    p.words = lost ? given.lost_words : given.words;
    if (phase == down_product && part == computing) ++marked_layer;
  }
  __device__ static uint32_t where(int layer, Phase phase) { return static_cast<uint32_t>(layer) << 8 | phase; }

  // Of the step under way: p.in is the launch's first.
  __device__ const SamplingSpec& sampling_of(int row) const {
    if constexpr (S::kGoesOn)
      return sh.sampling[sh.now.at & 1][row];
    else
      return p.in.sampling[row];
  }
  __device__ float* own_sums() { return sh.sums[parity][warp]; }
  __device__ void meet_workers() { meet(1, kThreads); }
  // After the barrier: element `at` of the product over all warps, and 1 / rms of a row's vector.
  __device__ float total(int at) const {
    float v[kWarps];
#pragma unroll
    for (int w = 0; w < kWarps; ++w) v[w] = sh.sums[parity][w][at];
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
  }
  __device__ float inverse_rms(int row) const {
    const float4 a = *reinterpret_cast<const float4*>(&sh.squares[parity][row][0]),
                 b = *reinterpret_cast<const float4*>(&sh.squares[parity][row][4]);
    const float v = ((a.x + a.y) + (a.z + a.w)) + ((b.x + b.y) + (b.z + b.w));
    return rsqrtf(v / S::kD + p.norm_eps);
  }
};

}  // namespace bolide::decode
