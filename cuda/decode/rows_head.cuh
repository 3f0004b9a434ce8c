// The last phase for several rows: warp m takes row m's logits of the block's octets, and in block 0 chooses its token.
#pragma once

#include "cuda/decode/choice.cuh"
#include "cuda/decode/rows_worker.cuh"

namespace bolide::decode {

template <class S, int kRows, Probe kProbe>
__device__ void RowsWorker<S, kRows, kProbe>::head(uint32_t epoch) {
  constexpr int kTogether = 4;
  const int of_row = warp < rows() ? warp : 0;
  const RowSampling sampling(p, p.in.sampling[of_row], of_row);
  const int octets = p.vocab / 8 / kBlocks + (block() < p.vocab / 8 % kBlocks ? 1 : 0);
  RowsPart<S::kHidden, kRows> x;
  BestLogit best;
  float scale = 0.0f;
  for (int o = 0; o < octets; o += kTogether) {
    rows_product<typename S::HiddenColumns, kTogether, kRows, false>(ring, min(octets - o, kTogether), x, own_sums(), warp, lane, [&] {
      if (o > 0) return;
      poll_hidden(x, Words::kHiddenIn, Words::kSquaresIn, epoch, p.layer_count, head_product);
    });
    meet_workers();
    if (o == 0) scale = inverse_rms(of_row);
    const int octet = o + lane / 8, id = (octet * kBlocks + block()) * 8 + lane % 8;
    if (warp < rows() && octet < octets) {
      const float v = total(sum_at<kRows>(lane / 8, of_row, lane % 8)) * scale;
      if (!p.alone) p.logits[static_cast<int64_t>(of_row) * p.vocab + id] = v;
      best.add(sampling, v, id);
    }
    parity ^= 1;
    mark(head_product, computing);
  }
  best.join_warp();
  if (warp < rows() && lane == 0) best.publish(own_words(of_row) + Words::kBest, block(), epoch);
  if (block() == 0) choose(sampling.plain, epoch);
}

template <class S, int kRows, Probe kProbe>
__device__ void RowsWorker<S, kRows, kProbe>::choose(bool plain, uint32_t epoch) {
  bool drawn = true;
  if (warp < rows()) {
    const BestLogit best = best_of_blocks(own_words(warp) + Words::kBest, lane, epoch, ring.patience, where(p.layer_count, head_product));
    drawn = plain && best.is_token();
    if (drawn)
      best.store(p.out[warp], lane);
    else if (p.alone && lane == 0)
      best.report(p, p.out[warp], warp);
  }
  // sample() draws all rows or none.
  if (lane == 0) sh.sums[parity][warp][0] = drawn ? 1.0f : 0.0f;
  meet_workers();
  if (threadIdx.x == 0) *p.drawn = total(0) == kWarps;
  mark(head_product, waiting);
}

}  // namespace bolide::decode
