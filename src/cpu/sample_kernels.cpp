#include "cpu/sample_kernels.h"

#include <algorithm>
#include <limits>

#include "cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/sample_kernels.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// After highway.h, which the per-target toggle needs.
#include "cpu/exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {

using F32 = hn::ScalableTag<float>;
using VF = hn::Vec<F32>;
constexpr int kLanes = HWY_LANES(float);
constexpr int32_t kBlock = 64 * kLanes;  // of the argmax: the greatest value is looked for by block, its id in one block

// Greatest of a block of whole vectors; sets `nan` where any element is NaN.
HWY_INLINE float BlockTop(const float* x, int32_t n, bool& nan) {
  const F32 d;
  VF top = hn::LoadU(d, x);
  auto ordered = hn::Eq(top, top);
  for (int32_t i = kLanes; i < n; i += kLanes) {
    const VF v = hn::LoadU(d, x + i);
    ordered = hn::And(ordered, hn::Eq(v, v));
    top = hn::Max(top, v);
  }
  nan = nan || !hn::AllTrue(d, ordered);
  return hn::GetLane(hn::MaxOfLanes(d, top));
}

RowTop Top(const float* x, int32_t n) {
  RowTop top;
  top.value = -std::numeric_limits<float>::infinity();
  int32_t block = 0, i = 0;  // `block`: start of the first block that holds the greatest value
  const int32_t whole = n - n % kLanes;
  for (; i < whole; i += kBlock) {
    const float value = BlockTop(x + i, std::min(kBlock, whole - i), top.has_nan);
    if (value > top.value) {
      top.value = value;
      block = i;
    }
  }
  for (i = whole; i < n; ++i) {
    top.has_nan = top.has_nan || x[i] != x[i];
    if (x[i] > top.value) {
      top.value = x[i];
      block = i;
    }
  }
  for (top.id = block; top.id + 1 < n && x[top.id] != top.value;) ++top.id;
  return top;
}

// exp(x - top) where x >= least, else 0; counts the former.
HWY_INLINE VF WeightFrom(const float* x, VF top, VF least, int32_t& count) {
  const F32 d;
  const VF v = hn::LoadU(d, x);
  const auto taken = hn::Ge(v, least);
  count += static_cast<int32_t>(hn::CountTrue(d, taken));
  return hn::IfThenElseZero(taken, ExpNegative(d, hn::Sub(v, top)));
}

RowMass Mass(const float* x, int32_t n, float top, float least) {
  const F32 d;
  const VF highest = hn::Set(d, top), bound = hn::Set(d, least);
  RowMass mass{0.0, 0};
  int32_t i = 0;
  // Four short chains in float32, then float64: the rounding of 16 additions a lane is all there is.
  for (; i + kBlock <= n; i += kBlock) {
    VF partial[4] = {hn::Zero(d), hn::Zero(d), hn::Zero(d), hn::Zero(d)};
    for (int32_t j = 0; j < kBlock; j += 4 * kLanes) {
      for (int a = 0; a < 4; ++a) partial[a] = hn::Add(partial[a], WeightFrom(x + i + j + a * kLanes, highest, bound, mass.count));
    }
    const VF all = hn::Add(hn::Add(partial[0], partial[1]), hn::Add(partial[2], partial[3]));
    mass.sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, all)));
  }
  for (; i + kLanes <= n; i += kLanes) {
    mass.sum += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, WeightFrom(x + i, highest, bound, mass.count))));
  }
  for (; i < n; ++i) {
    if (!(x[i] >= least)) continue;
    mass.sum += static_cast<double>(hn::GetLane(ExpNegative(d, hn::Set(d, x[i] - top))));
    ++mass.count;
  }
  return mass;
}

int32_t BlockTops(const float* x, int32_t n, float* out) {
  const F32 d;
  int32_t blocks = 0, i = 0;
  for (; i + kSelectBlock <= n; i += kSelectBlock) {
    VF top = hn::LoadU(d, x + i);
    for (int32_t j = kLanes; j < kSelectBlock; j += kLanes) top = hn::Max(top, hn::LoadU(d, x + i + j));
    out[blocks++] = hn::GetLane(hn::MaxOfLanes(d, top));
  }
  if (i < n) out[blocks++] = *std::max_element(x + i, x + n);
  return blocks;
}

void Divide(const float* x, int32_t n, float divisor, float* out) {
  const F32 d;
  const VF by = hn::Set(d, divisor);
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) hn::StoreU(hn::Div(hn::LoadU(d, x + i), by), d, out + i);
  for (; i < n; ++i) out[i] = x[i] / divisor;
}

int32_t Select(const float* x, int32_t n, float low, float high, Candidate* out) {
  const F32 d;
  // -infinity marks entries that can never be drawn.
  const float least = std::max(low, std::numeric_limits<float>::lowest());
  const VF from = hn::Set(d, least), below = hn::Set(d, high);
  int32_t count = 0, i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const VF v = hn::LoadU(d, x + i);
    if (hn::AllFalse(d, hn::And(hn::Ge(v, from), hn::Lt(v, below)))) continue;
    for (int32_t j = i; j < i + kLanes; ++j) {
      // Written always, counted where wanted: no branch to mispredict.
      out[count] = {x[j], j};
      count += x[j] >= least && x[j] < high ? 1 : 0;
    }
  }
  for (; i < n; ++i) {
    out[count] = {x[i], i};
    count += x[i] >= least && x[i] < high ? 1 : 0;
  }
  return count;
}

// Ids come in rising order, so an equal value goes behind those already there.
HWY_INLINE void InsertEntry(Candidate entry, int32_t& held, int32_t count, Candidate* out) {
  int32_t at = held < count ? held++ : count - 1;
  for (; at > 0 && out[at - 1].score < entry.score; --at) out[at] = out[at - 1];
  out[at] = entry;
}

void TopEntries(const float* x, int32_t n, int32_t count, Candidate* out) {
  const F32 d;
  int32_t held = 0, i = 0;
  for (; i < count; ++i) InsertEntry({x[i], i}, held, count, out);
  for (; i + kLanes <= n; i += kLanes) {
    if (hn::AllFalse(d, hn::Gt(hn::LoadU(d, x + i), hn::Set(d, out[count - 1].score)))) continue;
    for (int32_t j = i; j < i + kLanes; ++j) {
      if (x[j] > out[count - 1].score) InsertEntry({x[j], j}, held, count, out);
    }
  }
  for (; i < n; ++i) {
    if (x[i] > out[count - 1].score) InsertEntry({x[i], i}, held, count, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bolide {

HWY_EXPORT(Top);
HWY_EXPORT(Mass);
HWY_EXPORT(BlockTops);
HWY_EXPORT(Divide);
HWY_EXPORT(Select);
HWY_EXPORT(TopEntries);

RowTop row_top(const float* x, int32_t n) { return HWY_DYNAMIC_DISPATCH(Top)(x, n); }
double row_exp_sum(const float* x, int32_t n, float top) { return row_mass(x, n, top, -std::numeric_limits<float>::infinity()).sum; }
RowMass row_mass(const float* x, int32_t n, float top, float least) { return HWY_DYNAMIC_DISPATCH(Mass)(x, n, top, least); }
int32_t row_block_tops(const float* x, int32_t n, float* out) { return HWY_DYNAMIC_DISPATCH(BlockTops)(x, n, out); }
void row_divide(const float* x, int32_t n, float divisor, float* out) { HWY_DYNAMIC_DISPATCH(Divide)(x, n, divisor, out); }
int32_t row_select(const float* x, int32_t n, float low, float high, Candidate* out) {
  return HWY_DYNAMIC_DISPATCH(Select)(x, n, low, high, out);
}
void row_top_entries(const float* x, int32_t n, int32_t count, Candidate* out) {
  if (count > 0) HWY_DYNAMIC_DISPATCH(TopEntries)(x, n, count, out);
}

}  // namespace bolide
#endif  // HWY_ONCE
