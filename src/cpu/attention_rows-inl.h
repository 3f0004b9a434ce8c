// What both attention kernels share, per SIMD target (Highway's per-target include pattern): loads that widen, and the rows of a block
// of positions. K and V are read through row pointers, so chunks may lie anywhere.
#if defined(BOLIDE_CPU_ATTENTION_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BOLIDE_CPU_ATTENTION_ROWS_INL_H
#undef BOLIDE_CPU_ATTENTION_ROWS_INL_H
#else
#define BOLIDE_CPU_ATTENTION_ROWS_INL_H
#endif

#include <algorithm>

#include "cpu/attention_kernels.h"
#include "cpu/exp-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {

using F32 = hn::ScalableTag<float>;
using VF = hn::Vec<F32>;
constexpr int kLanes = HWY_LANES(float);
// A masked score is a finite lowest value: whatever it adds to a state before the first visible position is wiped out by the factor
// exp(kMasked - m) = 0 of the next block, and after it, it adds exactly 0.
constexpr float kMasked = -3.0e38f;

struct Bf16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};
struct F8 {
  uint8_t bits;
};

template <class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const float* from) {
  return hn::LoadU(d, from);
}
template <class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const Bf16* from) {
  const hn::Rebind<uint16_t, D> d16;
  const hn::Rebind<uint32_t, D> d32;
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(d32, hn::LoadU(d16, reinterpret_cast<const uint16_t*>(from)))));
}
template <class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const F16* from) {
  const hn::Rebind<hwy::float16_t, D> d16;
  return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
}

// The seven bits below the sign, moved to a float's exponent and mantissa, are the value times 2^-120, subnormals included.
template <class D>
HWY_INLINE hn::Vec<D> LoadWide(D d, const F8* from) {
  const hn::Rebind<uint8_t, D> d8;
  const hn::Rebind<uint32_t, D> d32;
  const auto bits = hn::PromoteTo(d32, hn::LoadU(d8, reinterpret_cast<const uint8_t*>(from)));
  const auto magnitude = hn::ShiftLeft<20>(hn::And(bits, hn::Set(d32, 0x7fu)));
  const auto sign = hn::ShiftLeft<24>(hn::And(bits, hn::Set(d32, 0x80u)));
  const auto value = hn::Mul(hn::BitCast(d, hn::Or(magnitude, sign)), hn::Set(d, 0x1p120f));
  const auto is_nan = hn::RebindMask(d, hn::Eq(magnitude, hn::Set(d32, 0x7fu << 20)));
  return hn::IfThenElse(is_nan, hn::NaN(d), value);
}

// Rows of K and V of one block; the lists are filled up to a multiple of 8 with the last row.
template <class T>
struct BlockRows {
  const T* k[kAttentionBlock];
  const T* v[kAttentionBlock];
  int count;
};

template <class T>
void FindRows(const AttentionTile& tile, int32_t from, int32_t to, BlockRows<T>& rows) {
  const int32_t chunk_tokens = tile.kv->spec().chunk_tokens;
  rows.count = to - from;
  int i = 0;
  for (int32_t p = from; p < to;) {
    const int32_t chunk = p / chunk_tokens, offset = p % chunk_tokens;
    const int32_t n = std::min(chunk_tokens - offset, to - p);
    const T* k = static_cast<const T*>(tile.kv->k(tile.layer, tile.chunk_ids[chunk], tile.kv_head));
    const T* v = static_cast<const T*>(tile.kv->v(tile.layer, tile.chunk_ids[chunk], tile.kv_head));
    for (int32_t j = offset; j < offset + n; ++j, ++i) {
      rows.k[i] = k + static_cast<size_t>(j) * static_cast<size_t>(tile.head_dim);
      rows.v[i] = v + static_cast<size_t>(j) * static_cast<size_t>(tile.head_dim);
    }
    p += n;
  }
  for (; i % 8 != 0; ++i) {
    rows.k[i] = rows.k[i - 1];
    rows.v[i] = rows.v[i - 1];
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();
#endif
