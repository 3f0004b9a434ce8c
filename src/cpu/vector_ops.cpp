// RMSNorm, RoPE, gated activations and rounding: see vector_ops.h. Rows are short (a few KiB, in cache), so these take a small part of
// a step; they are vectorised so that it stays small when a prefill has hundreds of rows.
#include "cpu/vector_ops.h"

#include <cmath>
#include <cstring>

#include "cpu/simd_targets.h"

// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/vector_ops.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "cpu/exp-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace bolide {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Whole = hn::ScalableTag<float>;
using One = hn::CappedTag<float, 1>;  // for the elements past the last whole vector: the same arithmetic, one lane

float rms_scale_simd(const float* x, float eps, int64_t n) {
  const Whole d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    const auto x0 = hn::LoadU(d, x + i), x1 = hn::LoadU(d, x + i + lanes);
    const auto x2 = hn::LoadU(d, x + i + 2 * lanes), x3 = hn::LoadU(d, x + i + 3 * lanes);
    s0 = hn::MulAdd(x0, x0, s0);
    s1 = hn::MulAdd(x1, x1, s1);
    s2 = hn::MulAdd(x2, x2, s2);
    s3 = hn::MulAdd(x3, x3, s3);
  }
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    s0 = hn::MulAdd(v, v, s0);
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < n; ++i) sum += x[i] * x[i];
  return 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
}

void scale_by_simd(const float* x, const float* weight, float scale, int64_t n, float* out) {
  const Whole d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scales = hn::Set(d, scale);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(d, x + i), scales), hn::LoadU(d, weight + i)), d, out + i);
  for (; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

void rotate_halves_simd(float* HWY_RESTRICT head, const float* HWY_RESTRICT rope, int64_t half) {
  const Whole d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    hn::Vec<Whole> cosine, sine;
    hn::LoadInterleaved2(d, rope + 2 * i, cosine, sine);
    const auto a = hn::LoadU(d, head + i), b = hn::LoadU(d, head + half + i);
    hn::StoreU(hn::NegMulAdd(b, sine, hn::Mul(a, cosine)), d, head + i);
    hn::StoreU(hn::MulAdd(a, sine, hn::Mul(b, cosine)), d, head + half + i);
  }
  for (; i < half; ++i) {
    const float a = head[i], b = head[half + i], cosine = rope[2 * i], sine = rope[2 * i + 1];
    head[i] = a * cosine - b * sine;
    head[half + i] = b * cosine + a * sine;
  }
}

void add_simd(float* HWY_RESTRICT x, const float* HWY_RESTRICT y, int64_t n) {
  const Whole d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i)), d, x + i);
  for (; i < n; ++i) x[i] += y[i];
}

// x * sigmoid(y), with the exponential of -|y| so that it never overflows.
template <class D, class V>
HWY_INLINE V times_sigmoid(D d, V x, V y) {
  const V one = hn::Set(d, 1.0f);
  const V e = ExpNegative(d, hn::Neg(hn::Abs(y)));
  const V numerator = hn::IfThenElse(hn::Lt(y, hn::Zero(d)), e, one);
  return hn::Mul(x, hn::Div(numerator, hn::Add(one, e)));
}

template <class D>
HWY_INLINE void silu_at(D d, const float* gate, const float* up, float* out) {
  const auto x = hn::LoadU(d, gate);
  hn::StoreU(hn::Mul(times_sigmoid(d, x, x), hn::LoadU(d, up)), d, out);
}

// 0.5 (1 + tanh u) = sigmoid(2 u), without the cancellation of 1 + tanh u for negative u.
template <class D>
HWY_INLINE void gelu_tanh_at(D d, const float* gate, const float* up, float* out) {
  const auto x = hn::LoadU(d, gate);
  const auto cubic = hn::MulAdd(hn::Mul(hn::Set(d, 0.044715f), hn::Mul(x, x)), x, x);
  const auto twice_u = hn::Mul(hn::Set(d, 1.5957691216057308f), cubic);  // 2 sqrt(2 / pi)
  hn::StoreU(hn::Mul(times_sigmoid(d, x, twice_u), hn::LoadU(d, up)), d, out);
}

void gated_activation_simd(GatedActivation activation, const float* gate, const float* up, int64_t n, float* out) {
  const Whole d;
  const One one;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  switch (activation) {
    case GatedActivation::silu:
      for (; i + lanes <= n; i += lanes) silu_at(d, gate + i, up + i, out + i);
      for (; i < n; ++i) silu_at(one, gate + i, up + i, out + i);
      break;
    case GatedActivation::gelu_tanh:
      for (; i + lanes <= n; i += lanes) gelu_tanh_at(d, gate + i, up + i, out + i);
      for (; i < n; ++i) gelu_tanh_at(one, gate + i, up + i, out + i);
      break;
    case GatedActivation::gelu_erf:
      for (; i < n; ++i) out[i] = 0.5f * gate[i] * (1.0f + std::erf(gate[i] * 0.70710678118654752f)) * up[i];
      break;
  }
}

void store_bf16(const float* HWY_RESTRICT x, int64_t n, uint16_t* HWY_RESTRICT out) {
  const Whole d;
  const hn::RebindToUnsigned<Whole> du;
  const hn::RebindToSigned<Whole> di;
  const hn::Rebind<uint16_t, Whole> d16;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    const auto bits = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fffu)));
    const auto quiet = hn::Or(bits, hn::Set(du, 0x400000u));
    const auto kept = hn::IfThenElse(hn::RebindMask(du, hn::Eq(v, v)), rounded, quiet);
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, hn::ShiftRight<16>(kept))), d16, out + i);
  }
  for (; i < n; ++i) out[i] = f32_to_bf16(x[i]);
}

void store_f16(const float* HWY_RESTRICT x, int64_t n, uint16_t* HWY_RESTRICT out) {
  int64_t i = 0;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3  // elsewhere Highway's conversion does not round ties to even
  const Whole d;
  const hn::Rebind<hwy::float16_t, Whole> d16;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::DemoteTo(d16, hn::LoadU(d, x + i)), d16, reinterpret_cast<hwy::float16_t*>(out + i));
  }
#endif
  for (; i < n; ++i) out[i] = f32_to_f16(x[i]);
}

// f32_to_f8 lane by lane.
void store_f8(const float* HWY_RESTRICT x, int64_t n, uint8_t* HWY_RESTRICT out) {
  const Whole d;
  const hn::RebindToUnsigned<Whole> du;
  const hn::RebindToSigned<Whole> di;
  const hn::Rebind<uint8_t, Whole> d8;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    const auto bits = hn::BitCast(du, v);
    const auto sign = hn::And(hn::ShiftRight<24>(bits), hn::Set(du, 0x80u));
    const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffffffu));
    // Ordered like the integers, as both are positive.
    const auto bounded = hn::Min(magnitude, hn::Set(du, 0x43e00000u));
    const auto odd = hn::And(hn::ShiftRight<20>(bounded), hn::Set(du, 1u));
    const auto rounded = hn::ShiftRight<20>(hn::Sub(hn::Add(bounded, hn::Add(odd, hn::Set(du, 0x7ffffu))), hn::Set(du, 120u << 23)));
    const auto shifted = hn::Add(hn::BitCast(d, bounded), hn::Set(d, 0x1p14f));
    const auto small = hn::Sub(hn::BitCast(du, shifted), hn::Set(du, 0x46800000u));
    const auto is_small = hn::Lt(magnitude, hn::Set(du, 0x3c800000u));
    const auto is_nan = hn::Gt(magnitude, hn::Set(du, 0x7f800000u));
    const auto value = hn::IfThenElse(is_nan, hn::Set(du, 0x7fu), hn::IfThenElse(is_small, small, rounded));
    hn::StoreU(hn::DemoteTo(d8, hn::BitCast(di, hn::Or(value, sign))), d8, out + i);
  }
  for (; i < n; ++i) out[i] = f32_to_f8(x[i]);
}

void store_rounded_simd(const float* x, int64_t n, DType dtype, void* out) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(out, x, static_cast<size_t>(n) * sizeof(float));
      break;
    case DType::bf16:
      store_bf16(x, n, static_cast<uint16_t*>(out));
      break;
    case DType::f16:
      store_f16(x, n, static_cast<uint16_t*>(out));
      break;
    case DType::f8:
      store_f8(x, n, static_cast<uint8_t*>(out));
      break;
  }
}

const char* target_name_simd() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace bolide
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace bolide {
HWY_EXPORT(rms_scale_simd);
HWY_EXPORT(scale_by_simd);
HWY_EXPORT(rotate_halves_simd);
HWY_EXPORT(add_simd);
HWY_EXPORT(gated_activation_simd);
HWY_EXPORT(store_rounded_simd);
HWY_EXPORT(target_name_simd);

float rms_scale(const float* x, float eps, int64_t n) { return HWY_DYNAMIC_DISPATCH(rms_scale_simd)(x, eps, n); }
void scale_by(const float* x, const float* weight, float scale, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(scale_by_simd)(x, weight, scale, n, out);
}
void rotate_halves(float* head, const float* rope, int64_t half) { HWY_DYNAMIC_DISPATCH(rotate_halves_simd)(head, rope, half); }
void add(float* x, const float* y, int64_t n) { HWY_DYNAMIC_DISPATCH(add_simd)(x, y, n); }
void gated_activation(GatedActivation activation, const float* gate, const float* up, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(gated_activation_simd)(activation, gate, up, n, out);
}
void store_rounded(const float* x, int64_t n, DType dtype, void* out) { HWY_DYNAMIC_DISPATCH(store_rounded_simd)(x, n, dtype, out); }
const char* simd_target_in_use() { return HWY_DYNAMIC_DISPATCH(target_name_simd)(); }
std::vector<std::string> simd_targets_compiled() {
  std::vector<std::string> names;
  for (uint64_t rest = HWY_TARGETS; rest != 0; rest &= rest - 1)
    names.emplace_back(hwy::TargetName(static_cast<int64_t>(rest & (~rest + 1))));
  return names;
}
}  // namespace bolide
#endif
