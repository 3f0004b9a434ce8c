// The last phase for several rows: warp m takes row m's logits of the block's octets and chooses its token: in block 0, or in all blocks
// where the kernel may go on by itself.
#pragma once

#include "cuda/decode/rows_worker.cuh"

namespace bolide::decode {

template <class S, int kRows, Probe kProbe>
__device__ void RowsWorker<S, kRows, kProbe>::head(uint32_t epoch) {
  forget_places();
  constexpr int kTogether = 4;
  const int of_row = warp < rows() ? warp : 0;
  // In shared memory: there are no registers left for it beside the vectors.
  if (lane == 0) sh.row_sampling[warp] = RowSampling(p, sampling_of(of_row), of_row);
  __syncwarp();
  const RowSampling& sampling = sh.row_sampling[warp];
  const int octets = p.vocab / 8 / kBlocks + (block() < p.vocab / 8 % kBlocks ? 1 : 0);
  RowsPart<S::kHidden, kRows> x;
  BestLogit best;
  float scale = 0.0f;
  // Not within the first product, beside whose weights a part of the vectors went to local memory.
  poll_hidden(x, Words::kHiddenIn, Words::kSquaresIn, epoch, p.layer_count, head_product);
  for (int o = 0; o < octets; o += kTogether) {
    rows_product<typename S::HiddenColumns, kTogether, kRows, false>(ring, min(octets - o, kTogether), x, own_sums(), warp, lane, [] {});
    if (S::kGoesOn && ring.patience.where) sh.stalled = 1;
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
  if constexpr (S::kGoesOn) {
    if (p.mailbox) return choose_and_go_on(best, epoch);
  }
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

template <class S, int kRows, Probe kProbe>
__device__ void RowsWorker<S, kRows, kProbe>::choose_and_go_on(BestLogit best, uint32_t epoch) {
  if (warp < rows()) {
    if (lane == 0) {
      if (sh.stalled) best.notes |= wait_given_up;
      if (block() == 0 && warp == 0 && phase_is_over_now(sh.next_ready, sh.now.at & 1)) best.notes |= next_is_there;
      best.publish(own_words(warp) + Words::kBest, block(), epoch);
    }
    const BestLogit chosen = best_of_blocks(own_words(warp) + Words::kBest, lane, epoch, ring.patience, where(p.layer_count, head_product));
    const bool gave_up = __any_sync(kAllLanes, ring.patience.where != 0), drawn = chosen.is_token() && !gave_up;
    if (block() == 0 && drawn) chosen.store(sh.now.out[warp], lane);
    if (block() == 0 && lane == 0 && !drawn && !gave_up && !(chosen.notes & wait_given_up)) chosen.report(p, sh.now.out[warp], warp);
    if (lane == 0) sh.drawn[warp] = drawn ? chosen.id : -1;
    if (lane == 0 && warp == 0) sh.next_is_there = chosen.notes & next_is_there;
  }
  meet_workers();
  if (warp == 0) {
    const int32_t id = lane < rows() ? sh.drawn[lane] : 0;
    const bool drawn = __all_sync(kAllLanes, id >= 0), on = drawn && sh.next_is_there;
    if (block() == 0 && lane < kRows)
      store_outcome(p.outcomes, lane, sh.now.number, on ? StepEnd::goes_on : drawn ? StepEnd::leaves : StepEnd::broken, max(id, 0), !drawn);
    if (on) {
      if (lane == 0) wait(sh.next_ready, sh.now.at & 1, ring.patience, kInputsPhase);
      if (__shfl_sync(kAllLanes, ring.patience.where == 0, 0)) begin_next(sh, id, lane);
      __syncwarp();
    }
    if (lane == 0) {
      sh.goes_on = on;
      if (on)
        sh.workers_begun = sh.workers_begun + 1;
      else
        sh.stop = 1;
    }
  }
  meet_workers();
}

}  // namespace bolide::decode
