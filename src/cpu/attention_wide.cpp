// The attention kernel for many queries (prefill): queries lie in lanes, elements of K and V are broadcast against them, in register
// tiles of up to 3 vectors of queries x kTile keys (or elements of V). So maximum, exponential and sum of the softmax need no operation
// across lanes. 165 GF/s on one Zen 5 core (AVX-512, head size 128, 512 positions).
#include "cpu/attention_kernels.h"
#include "cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_wide.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h, which the per-target toggle needs.
#include "cpu/attention_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {

template <class T>
HWY_INLINE void WidenRows(const T** rows, int count, int size, float* widened, const float** out) {
  const F32 d;
  const hn::CappedTag<float, 2> pair;
  for (int i = 0; i < count; ++i) {
    float* to = widened + static_cast<size_t>(i) * static_cast<size_t>(size);
    int e = 0;
    for (; e + kLanes <= size; e += kLanes) hn::StoreU(LoadWide(d, rows[i] + e), d, to + e);
    for (; e < size; e += static_cast<int>(hn::Lanes(pair))) hn::StoreU(LoadWide(pair, rows[i] + e), pair, to + e);
    out[i] = to;
  }
  for (int i = count; i % 8 != 0; ++i) out[i] = out[count - 1];
}
HWY_INLINE void WidenRows(const float** rows, int count, int, float*, const float** out) { std::copy_n(rows, (count + 7) / 8 * 8, out); }

constexpr int kTile = kLanes == 16 ? 8 : 4;  // 24 of 32 registers, 12 of 16

// scores[i][lanes] = scale * q . k[i] for kTile keys.
template <int NV>
HWY_INLINE void WideScores(const float* queries, int stride, const float* const* k, int size, float scale, float* scores) {
  const F32 d;
  VF acc[NV][kTile];
#pragma GCC unroll 8
  for (int i = 0; i < kTile; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < NV; ++v) acc[v][i] = hn::Zero(d);
  }
  for (int e = 0; e < size; ++e, queries += stride) {
    VF q[NV];
#pragma GCC unroll 3
    for (int v = 0; v < NV; ++v) q[v] = hn::Load(d, queries + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kTile; ++i) {
      const VF key = hn::Set(d, k[i][e]);
#pragma GCC unroll 3
      for (int v = 0; v < NV; ++v) acc[v][i] = hn::MulAdd(q[v], key, acc[v][i]);
    }
  }
  const VF factor = hn::Set(d, scale);
#pragma GCC unroll 8
  for (int i = 0; i < kTile; ++i) {
#pragma GCC unroll 3
    for (int v = 0; v < NV; ++v) hn::Store(hn::Mul(acc[v][i], factor), d, scores + i * stride + v * kLanes);
  }
}

// o[first + i][lanes] = o * shrink + sum over keys of p[key][lanes] v[key][first + i], for NE elements of the head.
template <int NV, int NE>
HWY_INLINE void WideSum(const float* p, int stride, const float* const* rows, int count, int first, const float* shrink, float* o) {
  const F32 d;
  VF acc[NV][NE];
#pragma GCC unroll 3
  for (int v = 0; v < NV; ++v) {
    const VF factor = hn::Load(d, shrink + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < NE; ++i) acc[v][i] = hn::Mul(factor, hn::Load(d, o + (first + i) * stride + v * kLanes));
  }
  for (int key = 0; key < count; ++key, p += stride) {
    VF weight[NV];
#pragma GCC unroll 3
    for (int v = 0; v < NV; ++v) weight[v] = hn::Load(d, p + v * kLanes);
    const float* row = rows[key] + first;
#pragma GCC unroll 8
    for (int i = 0; i < NE; ++i) {
      const VF element = hn::Set(d, row[i]);
#pragma GCC unroll 3
      for (int v = 0; v < NV; ++v) acc[v][i] = hn::MulAdd(weight[v], element, acc[v][i]);
    }
  }
#pragma GCC unroll 3
  for (int v = 0; v < NV; ++v) {
#pragma GCC unroll 8
    for (int i = 0; i < NE; ++i) hn::Store(acc[v][i], d, o + (first + i) * stride + v * kLanes);
  }
}

// Scores outside [begin, end) of their query become kMasked.
HWY_INLINE void WideMask(const AttentionTile& tile, int32_t position, int count, float* scores) {
  const F32 d;
  const hn::RebindToSigned<F32> di;
  const int stride = tile.stride();
  HWY_ALIGN int32_t begin[kMaxTileQueries], end[kMaxTileQueries];
  for (int j = 0; j < stride; ++j) {
    begin[j] = j < tile.count ? tile.begin[j] : 0;
    end[j] = j < tile.count ? tile.end[j] : 0;
  }
  const VF masked = hn::Set(d, kMasked);
  for (int i = 0; i < count; ++i) {
    const auto here = hn::Set(di, position + i);
    for (int j = 0; j < stride; j += kLanes) {
      const auto hidden = hn::Or(hn::Lt(here, hn::Load(di, begin + j)), hn::Not(hn::Lt(here, hn::Load(di, end + j))));
      float* at = scores + i * stride + j;
      hn::Store(hn::IfThenElse(hn::RebindMask(d, hidden), masked, hn::Load(d, at)), d, at);
    }
  }
}

// Per lane: new maximum, weights exp(s - m), sum; writes the factor by which earlier sums shrink.
HWY_INLINE void WideSoftmax(float* scores, int stride, int count, float* m, float* l, float* shrink) {
  const F32 d;
  for (int j = 0; j < stride; j += kLanes) {
    const VF before = hn::Load(d, m + j);
    VF top = before;
    for (int i = 0; i < count; ++i) top = hn::Max(top, hn::Load(d, scores + i * stride + j));
    VF sum = hn::Zero(d);
    for (int i = 0; i < count; ++i) {
      float* at = scores + i * stride + j;
      const VF p = ExpNegative(d, hn::Sub(hn::Load(d, at), top));
      hn::Store(p, d, at);
      sum = hn::Add(sum, p);
    }
    const VF factor = ExpNegative(d, hn::Sub(before, top));
    hn::Store(top, d, m + j);
    hn::Store(factor, d, shrink + j);
    hn::Store(hn::MulAdd(hn::Load(d, l + j), factor, sum), d, l + j);
  }
}

template <class T, int NV>
void WidePartialOf(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state) {
  const int stride = tile.stride();
  float* m = state;
  float* l = m + stride;
  float* o = l + stride;
  std::fill_n(m, stride, kMasked);
  std::fill_n(l, static_cast<size_t>(tile.head_dim + 1) * static_cast<size_t>(stride), 0.0f);
  from = std::max(from, tile.first_begin);
  to = std::min(to, tile.last_end);
  HWY_ALIGN float shrink[kMaxTileQueries];
  BlockRows<T> rows;
  const float* widened[kAttentionBlock];
  for (int32_t block = from / kAttentionBlock * kAttentionBlock; block < to; block += kAttentionBlock) {
    const int32_t low = std::max(block, from), high = std::min(block + kAttentionBlock, to);
    FindRows(tile, low, high, rows);
    WidenRows(rows.k, rows.count, tile.head_dim, work.widened, widened);
    for (int i = 0; i < rows.count; i += kTile) {
      WideScores<NV>(work.queries, stride, widened + i, tile.head_dim, tile.scale, work.scores + i * stride);
    }
    if (low < tile.last_begin || high > tile.first_end) WideMask(tile, low, rows.count, work.scores);
    WideSoftmax(work.scores, stride, rows.count, m, l, shrink);
    WidenRows(rows.v, rows.count, tile.head_dim, work.widened, widened);
    int e = 0;
    for (; e + kTile <= tile.head_dim; e += kTile) WideSum<NV, kTile>(work.scores, stride, widened, rows.count, e, shrink, o);
    for (; e < tile.head_dim; e += 2) WideSum<NV, 2>(work.scores, stride, widened, rows.count, e, shrink, o);
  }
}

template <class T>
void WidePartial(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state) {
  switch (tile.stride() / kLanes) {
    case 1:
      return WidePartialOf<T, 1>(tile, from, to, work, state);
    case 2:
      return WidePartialOf<T, 2>(tile, from, to, work, state);
    default:
      return WidePartialOf<T, 3>(tile, from, to, work, state);
  }
}

void WideOf(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state) {
  switch (tile.kv->spec().dtype) {
    case DType::f32:
      return WidePartial<float>(tile, from, to, work, state);
    case DType::bf16:
      return WidePartial<Bf16>(tile, from, to, work, state);
    case DType::f16:
      return WidePartial<F16>(tile, from, to, work, state);
    case DType::f8:
      return WidePartial<F8>(tile, from, to, work, state);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bolide {

HWY_EXPORT(WideOf);

void attention_wide(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state) {
  HWY_DYNAMIC_DISPATCH(WideOf)(tile, from, to, work, state);
}

}  // namespace bolide
#endif  // HWY_ONCE
