// The worker's attention phase for heads of 256.
#pragma once

#include "cuda/decode/wide_heads.cuh"
#include "cuda/decode/worker_attention.cuh"

namespace bolide::decode {

template <class S, Probe kProbe>
template <int N>
__device__ void Worker<S, kProbe>::make_wide_heads(const Layer& l, int layer, uint32_t epoch) {
  WideHeadMaker<S> makers[N];
#pragma unroll
  for (int i = 0; i < N; ++i) makers[i].start(l, warp + i * kWarps, lane);
  const uint64_t* words = p.words + S::kHeadWords + (group * S::kHeadRows + warp * S::kHeadDim + makers[0].at) / 2;
  WordPair low[N], high[N];
  int n = 0;
  bool missing;
  do {
    missing = false;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const uint64_t* from = words + i * (kWarps * S::kHeadDim / 2);
      low[i] = load_words(from), high[i] = load_words(from + S::kHeadDim / 4);
    }
#pragma unroll
    for (int i = 0; i < N; ++i) missing |= !low[i].are_of(epoch) || !high[i].are_of(epoch);
    ++n;
  } while (__any_sync(kAllLanes, missing && ring.patience.holds(n, where(layer, attention))));
  mark(attention, waiting);
#pragma unroll
  for (int i = 0; i < N; ++i) makers[i].finish(low[i], high[i], turn, p, sh.attention, warp + i * kWarps);
}

template <class S, Probe kProbe>
__device__ void Worker<S, kProbe>::attend_wide(const Layer& l, uint32_t epoch) {
  WideSoftmax<S> softmax;
  softmax.start(sh.attention, S::kHeadOfWarp ? warp : 0, lane);
  const int context = sh.now.own.context[0], from = first_seen(context, l.window), within = S::kHeadOfWarp ? 0 : warp * S::kTogether;
  for (int j = 0; j < sh.now.own.first[1]; ++j) {
    const int first = (rank + j * S::kHeadBlocks) * S::kPositions;
    if (first / S::kPositions < from / S::kPositions) continue;
    const bool cached = first < context;  // else the new position is the block's only one
    if (cached) wait(ring.full[ring.place.stage], ring.place.parity, ring.patience, kStreamPhase);
    const char* stage = ring.data + ring.place.stage * kStageBytes + within * S::kHeadDim * 2;
    softmax.add(stage, sh.attention, first + within, from, context, lane);
    if (!cached) continue;
    __syncwarp();
    if (lane == 0) arrive(ring.empty[ring.place.stage]);
    ring.place.next();
  }
  softmax.join(lane);
  const float(&v)[8] = softmax.values;
  if constexpr (S::kHeadOfWarp) {  // a lane has a part
    Parts<S>::store_wide_head(p.words + S::kPartials + group * S::kGroupWords, warp, rank, v, softmax.maximum, softmax.sum, lane, epoch);
  } else {
    float* to = &sh.attention.values[warp][8 * lane];
    *reinterpret_cast<float4*>(to) = make_float4(v[0], v[1], v[2], v[3]);
    *reinterpret_cast<float4*>(to + 4) = make_float4(v[4], v[5], v[6], v[7]);
    if (lane == 0) sh.attention.maximum[0][warp] = softmax.maximum, sh.attention.sum[0][warp] = softmax.sum;
  }
}

}  // namespace bolide::decode
