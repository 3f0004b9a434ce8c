// The worker's last phase: logits, and the token where temperature alone shapes the distribution.
#pragma once

#include "core/philox.h"
#include "cuda/decode/worker.cuh"

namespace bolide::decode {

template <class S, bool kTimed>
__device__ void Worker<S, kTimed>::head(VectorPart<S::kHidden>& x, uint32_t epoch) {
  constexpr int kTogether = 4;
  const SamplingSpec spec = p.in.sampling[0];
  const int allowed = spec.allowed_vocab > 0 ? min(spec.allowed_vocab, p.vocab) : p.vocab;
  const bool plain = spec.target < 0 && spec.top_logprobs < 0 && p.in.seen_offsets[1] == p.in.seen_offsets[0] &&
                     p.in.bias_offsets[1] == p.in.bias_offsets[0] &&
                     (!(spec.temperature > 0.0f) || !((spec.top_k > 0 && spec.top_k < p.vocab) || spec.top_p < 1.0f || spec.min_p > 0.0f));
  const int octets = p.vocab / 8 / kBlocks + (block < p.vocab / 8 % kBlocks ? 1 : 0);
  Poll<S::kHidden, true> poll(p.words + S::kHiddenIn, warp, lane);
  Candidate best;
  uint32_t broken = 0;  // 1: an infinity, 2: NaN
  float scale = 0.0f;
  for (int o = 0; o < octets; o += kTogether) {
    product<S::kHidden, kTogether>(ring, min(octets - o, kTogether), x, own_sums(), warp, lane, [&] {
      if (o > 0) return;
      poll.finish(x, epoch, ring.patience, where(p.layer_count, head_product));
      leave_squares(x.squares);
    });
    meet_workers();
    if (warp == 0) {
      if (o == 0) scale = inverse_rms();
      const int octet = o + lane / 8, id = (octet * kBlocks + block) * 8 + lane % 8;
      if (octet < octets) {
        float v = total(lane) * scale;
        p.logits[id] = v;
        broken |= v != v ? 2 : v > 3.4e38f ? 1 : 0;
        if (plain && id < allowed) {
          if (spec.temperature > 0.0f) {
            const Philox4 random = sampling_block(spec.seed, spec.sequence, spec.position, static_cast<uint32_t>(id));
            const uint32_t bits = id & 2 ? (id & 1 ? random.v[3] : random.v[2]) : (id & 1 ? random.v[1] : random.v[0]);
            v = divide(v, spec.temperature) - logf(-logf(uniform_open(bits)));
          }
          best.keep(v, id);
        }
      }
    }
    parity ^= 1;
    mark(head_product, computing);
  }
  if (warp != 0) return;
  best.join_warp();
  broken = __reduce_or_sync(kAllLanes, broken);
  if (lane == 0) {
    store_word(p.words + S::kBest + 2 * block, __float_as_uint(best.value), broken, epoch);
    store_word(p.words + S::kBest + 2 * block + 1, static_cast<uint32_t>(best.id), 0, epoch);
  }
  if (block == 0) choose(plain, epoch);
}

template <class S, bool kTimed>
__device__ void Worker<S, kTimed>::choose(bool plain, uint32_t epoch) {
  Candidate best;
  uint32_t broken = 0;
#pragma unroll
  for (int i = 0; i < kBlocks / 32; ++i) {
    WordPair w;
    int n = 0;
    do w = load_words(p.words + S::kBest + 2 * (lane + 32 * i)), ++n;
    while (__any_sync(kAllLanes, !w.are_of(epoch) && ring.patience.holds(n, where(p.layer_count, head_product))));
    best.keep(__uint_as_float(w.a.low), static_cast<int32_t>(w.b.low));
    broken |= w.a.high & 0xffff;
  }
  best.join_warp();
  broken = __reduce_or_sync(kAllLanes, broken);
  const bool drawn = plain && broken == 0 && best.value > -INFINITY && best.value < INFINITY;
  if (drawn)
    for (int i = lane; i < static_cast<int>(sizeof(SampledToken) / 4); i += 32) reinterpret_cast<int32_t*>(p.out)[i] = i == 0 ? best.id : 0;
  if (lane == 0) {
    *p.drawn = drawn;
    if (!drawn && p.alone) {
      p.out->id = -1;
      report_fault(p.fault, broken & 2 ? DeviceFault::nan_logits : DeviceFault::infinite_logits, 0, 0);
    }
  }
  mark(head_product, waiting);
}

}  // namespace bolide::decode
