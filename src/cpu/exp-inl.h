// Vectorised e^x for x <= 0, as softmax needs it, per SIMD target (Highway's per-target include pattern).
//
// x = n ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite's two-part ln 2), then 1 + r + r^2 p(r) with p fitted by Chebyshev
// interpolation of (e^r - 1 - r) / r^2. Error at most 0.75 ulp over [-87.3, 0] where the target has fused multiply-add, about 1.5 ulp
// elsewhere; exactly 1 at 0, exactly 0 below -87.3 (where float32 has no normal result), NaN for NaN.
#if defined(BOLIDE_CPU_EXP_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef BOLIDE_CPU_EXP_INL_H
#undef BOLIDE_CPU_EXP_INL_H
#else
#define BOLIDE_CPU_EXP_INL_H
#endif

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D, class V = hn::Vec<D>>
HWY_INLINE V ExpNegative(D d, V x) {
  const auto lowest = hn::Set(d, -87.3f);
  // Operand order matters: x86's maximum returns the second operand when one is NaN.
  const V clamped = hn::Max(lowest, x);
  const V n = hn::Round(hn::Mul(clamped, hn::Set(d, 1.44269504f)));
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693145751953125f), clamped);
  r = hn::NegMulAdd(n, hn::Set(d, 1.42860682e-6f), r);
  V p = hn::MulAdd(r, hn::Set(d, 1.392617589e-3f), hn::Set(d, 8.363173343e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.166655615e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.666657776e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
  const V y = hn::Add(hn::MulAdd(p, hn::Mul(r, r), r), hn::Set(d, 1.0f));
  const hn::RebindToSigned<D> di;
  const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(di, n), hn::Set(di, 127)));
  return hn::IfThenZeroElse(hn::Lt(x, lowest), hn::Mul(y, hn::BitCast(d, exponent)));
}

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();
#endif
