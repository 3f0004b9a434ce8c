// The worker's last phase: logits, and the token where temperature alone shapes the distribution.
#pragma once

#include "cuda/decode/choice.cuh"
#include "cuda/decode/worker.cuh"

namespace bolide::decode {

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::head(VectorPart<S::kHidden>& x, uint32_t epoch) {
  constexpr int kTogether = 4;
  const RowSampling sampling(p, 0);
  const int octets = p.vocab / 8 / kBlocks + (block < p.vocab / 8 % kBlocks ? 1 : 0);
  Poll<S::kHidden, true> poll(p.words + S::kHiddenIn, warp, lane);
  BestLogit best;
  float scale = 0.0f;
  for (int o = 0; o < octets; o += kTogether) {
    product<S::kHidden, kTogether>(ring, min(octets - o, kTogether), x, own_sums(), warp, lane, [&] {
      if (o > 0) return;
      poll.finish(x, epoch, ring.patience, where(p.layer_count, head_product));
      leave_squares(x.squares);
    });
    meet_workers();
    if (warp == 0) {
      if (o == 0) scale = inverse_rms(0);
      const int octet = o + lane / 8, id = (octet * kBlocks + block) * 8 + lane % 8;
      if (octet < octets) {
        const float v = total(lane) * scale;
        p.logits[id] = v;
        best.add(sampling, v, id);
      }
    }
    parity ^= 1;
    mark(head_product, computing);
  }
  if (warp != 0) return;
  best.join_warp();
  if (lane == 0) best.publish(p.words + S::kBest, block, epoch);
  if (block == 0) choose(sampling.plain, epoch);
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::choose(bool plain, uint32_t epoch) {
  const BestLogit best = best_of_blocks(p.words + S::kBest, lane, epoch, ring.patience, where(p.layer_count, head_product));
  const bool drawn = plain && best.is_token();
  if (drawn) best.store(*p.out, lane);
  if (lane == 0) {
    *p.drawn = drawn;
    if (!drawn && p.alone) best.report(p, 0);
  }
  mark(head_product, waiting);
}

}  // namespace bolide::decode
