// The attention kernel for few queries (decode): s = scale * (q . k) with the elements of a head in lanes, four keys and two queries at
// a time, then o += p v, eight rows and two queries at a time. K and V are read once; from cache, one Zen 5 core (AVX-512, head size 128)
// goes through 56 GB/s of them in float32 and 43 GB/s in bf16 for two queries, 44 and 26 GB/s for four: about the rate of memory.
#include "cpu/attention_kernels.h"
#include "cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_narrow.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h, which the per-target toggle needs.
#include "cpu/attention_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {

// Chunks lie anywhere, so the hardware sees a new short stream every few kilobytes and its prefetcher starts over each time. The kernel
// asks for the next rows itself: for a block's V while it works on K, and for the next block's K while it works on V.
template <class T>
HWY_INLINE void PrefetchRows(const AttentionTile& tile, const T* const* rows, int first, int last) {
  const size_t bytes = static_cast<size_t>(tile.head_dim) * sizeof(T);
  for (int i = first; i < last; ++i) {
    const auto* row = reinterpret_cast<const char*>(rows[i]);
    if (tile.prefetch_l2) {
      for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(row + at, 0, 2);
    } else {
      for (size_t at = 0; at < bytes; at += 64) hwy::Prefetch(row + at);
    }
  }
}

// out[i] = sum of the lanes of v[i], for four vectors at once: fewer shuffles than four sums.
#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void SumLanes4(F32, const VF* v, float* out) {
  for (int i = 0; i < 4; ++i) out[i] = hn::GetLane(v[i]);
}
#else
template <class D, class V>
HWY_INLINE void StoreBlockSum(D d, V v, float* out) {
  if constexpr (hn::MaxLanes(D()) <= 4) {
    hn::StoreU(v, d, out);
  } else {
    const hn::Half<D> half;
    StoreBlockSum(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)), out);
  }
}
HWY_INLINE void SumLanes4(F32 d, const VF* v, float* out) {
  const hn::Repartition<uint64_t, F32> d64;
  const VF a = hn::Add(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
  const VF b = hn::Add(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
  const auto a64 = hn::BitCast(d64, a), b64 = hn::BitCast(d64, b);
  StoreBlockSum(d, hn::Add(hn::BitCast(d, hn::InterleaveLower(d64, a64, b64)), hn::BitCast(d, hn::InterleaveUpper(d64, a64, b64))), out);
}
#endif

// q[j] . k[i] for 4 keys and NQ queries, summed over elements [0, size).
template <int NQ, class T>
HWY_INLINE void Dot4(const T* const* k, const float* const* q, int size, float (*out)[4]) {
  const F32 d;
  VF acc[NQ][4];
  for (int j = 0; j < NQ; ++j) {
    for (int i = 0; i < 4; ++i) acc[j][i] = hn::Zero(d);
  }
  int e = 0;
  for (; e + kLanes <= size; e += kLanes) {
    const VF k0 = LoadWide(d, k[0] + e), k1 = LoadWide(d, k[1] + e), k2 = LoadWide(d, k[2] + e), k3 = LoadWide(d, k[3] + e);
    for (int j = 0; j < NQ; ++j) {
      const VF qe = hn::LoadU(d, q[j] + e);
      acc[j][0] = hn::MulAdd(qe, k0, acc[j][0]);
      acc[j][1] = hn::MulAdd(qe, k1, acc[j][1]);
      acc[j][2] = hn::MulAdd(qe, k2, acc[j][2]);
      acc[j][3] = hn::MulAdd(qe, k3, acc[j][3]);
    }
  }
  for (int j = 0; j < NQ; ++j) SumLanes4(d, acc[j], out[j]);
  const hn::CappedTag<float, 2> pair;
  for (; e < size; e += static_cast<int>(hn::Lanes(pair))) {
    for (int j = 0; j < NQ; ++j) {
      const auto qe = hn::LoadU(pair, q[j] + e);
      for (int i = 0; i < 4; ++i) out[j][i] += hn::GetLane(hn::SumOfLanes(pair, hn::Mul(qe, LoadWide(pair, k[i] + e))));
    }
  }
}

// scores[j][first + i] = scale * q[j] . k[i]
template <class T>
void NarrowScores(const AttentionTile& tile, const BlockRows<T>& rows, int first, float* scores) {
  for (int i = 0; i < rows.count; i += 4) {
    float dots[2][4];
    PrefetchRows(tile, rows.v, i, std::min(i + 4, rows.count));
    for (int j = 0; j < tile.count; j += 2) {
      const int pair = std::min(2, tile.count - j);
      if (pair == 2) {
        Dot4<2>(rows.k + i, tile.query + j, tile.head_dim, dots);
      } else {
        Dot4<1>(rows.k + i, tile.query + j, tile.head_dim, dots);
      }
      const int n = std::min(4, rows.count - i);
      for (int a = 0; a < pair; ++a) {
        for (int b = 0; b < n; ++b) scores[(j + a) * kAttentionBlock + first + i + b] = dots[a][b] * tile.scale;
      }
    }
  }
}

// Turns the scores of one query and block into weights exp(s - m); returns the factor by which earlier sums shrink.
HWY_INLINE float NarrowSoftmax(float* scores, float& m, float& l) {
  const F32 d;
  VF top = hn::Set(d, m);
  for (int i = 0; i < kAttentionBlock; i += kLanes) top = hn::Max(top, hn::LoadU(d, scores + i));
  const VF highest = hn::MaxOfLanes(d, top);
  VF sum = hn::Zero(d);
  for (int i = 0; i < kAttentionBlock; i += kLanes) {
    const VF p = ExpNegative(d, hn::Sub(hn::LoadU(d, scores + i), highest));
    hn::StoreU(p, d, scores + i);
    sum = hn::Add(sum, p);
  }
  const float shrink = hn::GetLane(ExpNegative(d, hn::Sub(hn::Set(d, m), highest)));
  m = hn::GetLane(highest);
  l = l * shrink + hn::GetLane(hn::SumOfLanes(d, sum));
  return shrink;
}

// o[j] = o[j] * shrink[j] + sum of p[j][i] v[i] over 8 rows, in order, for NQ queries.
template <int NQ, class D, class T>
HWY_INLINE void Accumulate8(D d, const T* const* v, const float (*p)[8], const float* shrink, int e, float* const* o) {
  hn::Vec<D> sum[NQ];
  for (int j = 0; j < NQ; ++j) sum[j] = hn::Mul(hn::LoadU(d, o[j] + e), hn::Set(d, shrink[j]));
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const auto row = LoadWide(d, v[i] + e);
    for (int j = 0; j < NQ; ++j) sum[j] = hn::MulAdd(hn::Set(d, p[j][i]), row, sum[j]);
  }
  for (int j = 0; j < NQ; ++j) hn::StoreU(sum[j], d, o[j] + e);
}

// weights: of the block's rows, kAttentionBlock apart for each of NQ queries; o: theirs.
template <int NQ, class T>
void NarrowSum(const BlockRows<T>& rows, int size, const float* weights, const float* factors, float* const* o) {
  const F32 d;
  const hn::CappedTag<float, 2> pair;
  float shrink[NQ];
  std::copy_n(factors, NQ, shrink);
  for (int i = 0; i < rows.count; i += 8) {
    float p[NQ][8];
    for (int j = 0; j < NQ; ++j) {
      for (int a = 0; a < 8; ++a) p[j][a] = i + a < rows.count ? weights[j * kAttentionBlock + i + a] : 0.0f;
    }
    int e = 0;
    for (; e + kLanes <= size; e += kLanes) Accumulate8<NQ>(d, rows.v + i, p, shrink, e, o);
    for (; e < size; e += static_cast<int>(hn::Lanes(pair))) Accumulate8<NQ>(pair, rows.v + i, p, shrink, e, o);
    std::fill_n(shrink, NQ, 1.0f);
  }
}

template <class T>
void NarrowPartial(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state) {
  float* m = state;
  float* l = m + tile.stride();
  float* o = l + tile.stride();
  std::fill_n(m, tile.count, kMasked);
  std::fill_n(l, tile.count, 0.0f);
  std::fill_n(o, static_cast<size_t>(tile.count) * static_cast<size_t>(tile.head_dim), 0.0f);
  from = std::max(from, tile.first_begin);
  to = std::min(to, tile.last_end);
  if (from >= to) return;
  BlockRows<T> buffers[2];
  const auto block_end = [to](int32_t at) { return std::min((at / kAttentionBlock + 1) * kAttentionBlock, to); };
  FindRows(tile, from, block_end(from), buffers[0]);
  for (int32_t low = from, turn = 0; low < to; turn ^= 1) {
    const int32_t high = block_end(low), first = low % kAttentionBlock;
    const BlockRows<T>& rows = buffers[turn];
    BlockRows<T>& next = buffers[turn ^ 1];
    next.count = 0;
    if (high < to) FindRows(tile, high, block_end(high), next);
    std::fill_n(work.scores, tile.count * kAttentionBlock, kMasked);
    NarrowScores(tile, rows, first, work.scores);
    PrefetchRows(tile, next.k, 0, next.count);
    for (int j = 0; j < tile.count; j += 2) {
      const int pair = std::min(2, tile.count - j);
      float* scores = work.scores + j * kAttentionBlock;
      float shrink[2];
      float* sums[2];
      for (int a = 0; a < pair; ++a) {
        shrink[a] = NarrowSoftmax(scores + a * kAttentionBlock, m[j + a], l[j + a]);
        sums[a] = o + static_cast<size_t>(j + a) * static_cast<size_t>(tile.head_dim);
      }
      if (pair == 2) {
        NarrowSum<2>(rows, tile.head_dim, scores + first, shrink, sums);
      } else {
        NarrowSum<1>(rows, tile.head_dim, scores + first, shrink, sums);
      }
    }
    low = high;
  }
}

void NarrowOf(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state) {
  switch (tile.kv->spec().dtype) {
    case DType::f32:
      return NarrowPartial<float>(tile, from, to, work, state);
    case DType::bf16:
      return NarrowPartial<Bf16>(tile, from, to, work, state);
    case DType::f16:
      return NarrowPartial<F16>(tile, from, to, work, state);
    case DType::f8:
      return NarrowPartial<F8>(tile, from, to, work, state);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bolide {

HWY_EXPORT(NarrowOf);

void attention_narrow(const AttentionTile& tile, int32_t from, int32_t to, const AttentionWork& work, float* state) {
  HWY_DYNAMIC_DISPATCH(NarrowOf)(tile, from, to, work, state);
}

}  // namespace bolide
#endif  // HWY_ONCE
