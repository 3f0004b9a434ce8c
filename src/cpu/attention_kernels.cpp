// What is done to the states of attention before and after the kernels: packing, joining, dividing.
#include "cpu/attention_kernels.h"

#include "cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_kernels.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h, which the per-target toggle needs.
#include "cpu/attention_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {

void Merge(const AttentionTile& tile, float* into, const float* later) {
  const F32 d;
  const int stride = tile.stride();
  HWY_ALIGN float keep[kMaxTileQueries], add[kMaxTileQueries];
  for (int j = 0; j < stride; ++j) {
    // One query at a time, so that both kernels' states go through the same arithmetic.
    const VF a = hn::Set(d, into[j]), b = hn::Set(d, later[j]);
    const VF top = hn::Max(a, b);
    keep[j] = hn::GetLane(ExpNegative(d, hn::Sub(a, top)));
    add[j] = hn::GetLane(ExpNegative(d, hn::Sub(b, top)));
    into[j] = hn::GetLane(top);
    into[stride + j] = into[stride + j] * keep[j] + later[stride + j] * add[j];
  }
  float* o = into + 2 * stride;
  const float* from = later + 2 * stride;
  if (tile.wide) {
    for (int e = 0; e < tile.head_dim; ++e) {
      for (int j = 0; j < stride; j += kLanes, o += kLanes, from += kLanes) {
        hn::Store(hn::MulAdd(hn::Load(d, from), hn::Load(d, add + j), hn::Mul(hn::Load(d, o), hn::Load(d, keep + j))), d, o);
      }
    }
    return;
  }
  for (int j = 0; j < tile.count; ++j) {
    for (int e = 0; e < tile.head_dim; ++e, ++o, ++from) *o = *o * keep[j] + *from * add[j];
  }
}

int Lanes() { return kLanes; }

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bolide {

HWY_EXPORT(Merge);
HWY_EXPORT(Lanes);

int32_t attention_lanes() { return HWY_DYNAMIC_DISPATCH(Lanes)(); }

AttentionWork attention_work(float* memory, int32_t head_dim) {
  const auto dh = static_cast<size_t>((head_dim + 15) / 16 * 16);
  float* scores = memory + dh * kMaxTileQueries;
  return {memory, scores, scores + kAttentionBlock * kMaxTileQueries};
}

void attention_pack(const AttentionTile& tile, const AttentionWork& work) {
  if (!tile.wide) return;
  const auto stride = static_cast<size_t>(tile.stride());
  for (int32_t j = 0; j < tile.stride(); ++j) {
    float* to = work.queries + j;
    for (int32_t e = 0; e < tile.head_dim; ++e, to += stride) *to = j < tile.count ? tile.query[j][e] : 0.0f;
  }
}

void attention_partial(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state) {
  (tile.wide ? attention_wide : attention_narrow)(tile, from, to, work, state);
}

void attention_merge(const AttentionTile& tile, float* into, const float* later) { HWY_DYNAMIC_DISPATCH(Merge)(tile, into, later); }

void attention_finish(const AttentionTile& tile, const float* state) {
  const auto stride = static_cast<size_t>(tile.stride());
  const float* o = state + 2 * stride;
  for (int32_t j = 0; j < tile.count; ++j) {
    const float inverse = 1.0f / state[stride + static_cast<size_t>(j)];
    const float* from = tile.wide ? o + j : o + static_cast<size_t>(j) * static_cast<size_t>(tile.head_dim);
    const size_t step = tile.wide ? stride : 1;
    for (int32_t e = 0; e < tile.head_dim; ++e, from += step) tile.out[j][e] = *from * inverse;
  }
}

}  // namespace bolide
#endif  // HWY_ONCE
