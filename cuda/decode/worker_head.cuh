// The worker's last phase: logits, and the token where temperature alone shapes the distribution.
#pragma once

#include "cuda/decode/worker.cuh"

namespace bolide::decode {

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::head(VectorPart<S::kHidden>& x, uint32_t epoch) {
  constexpr int kTogether = 4;
  const RowSampling sampling(p, sampling_of(0), 0);
  const int octets = p.vocab / 8 / kBlocks + (block < p.vocab / 8 % kBlocks ? 1 : 0);
  Poll<typename S::HiddenColumns, true> poll(p.words + S::kHiddenIn, warp, lane);
  BestLogit best;
  float scale = 0.0f;
  for (int o = 0; o < octets; o += kTogether) {
    product<typename S::HiddenColumns, kTogether, S::kInRegisters>(ring, min(octets - o, kTogether), x, own_sums(), warp, lane, [&] {
      if (o > 0) return;
      poll.finish(x, warp, lane, epoch, ring.patience, where(p.layer_count, head_product));
      leave_squares(x.squares);
    });
    if (ring.patience.where) sh.stalled = 1;
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
  if constexpr (S::kGoesOn) {
    if (p.mailbox) return choose_and_go_on(best, epoch);
  }
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
    if (!drawn && p.alone) best.report(p, *p.out, 0);
  }
  mark(head_product, waiting);
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::choose_and_go_on(const BestLogit& best, uint32_t epoch) {
  const int at = sh.now.at;
  // Read before the host can know the token: then the next step but one may take the place of this one's set.
  const int32_t stop = lane < kMaxStopIds ? sh.sampling[at & 1][0].stop_ids[lane] : -1;
  if (lane == 0) {
    BestLogit own = best;
    if (sh.stalled) own.notes |= wait_given_up;
    if (block == 0 && phase_is_over_now(sh.next_ready, at & 1)) own.notes |= next_is_there;
    own.publish(p.words + S::kBest, block, epoch);
  }
  const BestLogit chosen = best_of_blocks(p.words + S::kBest, lane, epoch, ring.patience, where(p.layer_count, head_product));
  const bool gave_up = __any_sync(kAllLanes, ring.patience.where != 0), stops = __any_sync(kAllLanes, stop >= 0 && stop == chosen.id);
  const bool drawn = chosen.is_token() && !gave_up, on = drawn && !stops && chosen.notes & next_is_there;
  if (block == 0) {
    if (drawn) chosen.store(*sh.now.out, lane);
    if (lane == 0) {
      if (!drawn && !gave_up && !(chosen.notes & wait_given_up)) chosen.report(p, *sh.now.out, 0);
      const StepEnd end = on ? StepEnd::goes_on : !drawn ? StepEnd::broken : stops ? StepEnd::stops : StepEnd::leaves;
      store_outcome(p.outcomes, 0, sh.now.number, end, drawn ? chosen.id : 0, !drawn);
    }
  }
  if (on) {
    if (lane == 0) wait(sh.next_ready, at & 1, ring.patience, kInputsPhase);
    const bool there = __shfl_sync(kAllLanes, ring.patience.where == 0, 0);
    if (there) begin_next(sh, chosen.id, lane);
    __syncwarp();
  }
  if (lane == 0) {
    sh.goes_on = on;
    if (on)
      sh.workers_begun = at + 1;
    else
      sh.stop = 1;
  }
}

// For all workers.
template <class S, Probe kProbe>
__device__ bool Worker<S, kProbe>::goes_on() {
  meet_workers();
  return sh.goes_on;
}

}  // namespace bolide::decode
