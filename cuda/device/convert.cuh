// Element types on the device: exact widening to float32, rounding to nearest even (to fp8 saturating at 448), 8 elements at a time.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "core/dtype.h"

namespace bolide {

__device__ inline float to_float(float v) { return v; }
__device__ inline float to_float(__half v) { return __half2float(v); }
__device__ inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ inline float to_float(__nv_fp8_e4m3 v) { return static_cast<float>(v); }

template <class T>
__device__ inline T from_float(float v);
template <>
__device__ inline float from_float<float>(float v) {
  return v;
}
template <>
__device__ inline __half from_float<__half>(float v) {
  return __float2half_rn(v);
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}
template <>
__device__ inline __nv_fp8_e4m3 from_float<__nv_fp8_e4m3>(float v) {
  __nv_fp8_e4m3 out;
  out.__x = __nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3);
  return out;
}

// Two elements as they lie in a word, the first in its lower half.
__device__ inline uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// 8 e4m3 elements as bfloat16, exactly.
__device__ inline uint4 widen_f8_to_bf16(uint2 narrow) {
  const auto pair = [](uint32_t word, int half) {
    const __half2_raw both = __nv_cvt_fp8x2_to_halfraw2(static_cast<__nv_fp8x2_storage_t>(word >> (half * 16)), __NV_E4M3);
    const float2 wide = __half22float2(__half2(both));
    return pack_bf16(wide.x, wide.y);
  };
  return make_uint4(pair(narrow.x, 0), pair(narrow.x, 1), pair(narrow.y, 0), pair(narrow.y, 1));
}

// N consecutive elements as they lie in memory, in as few loads as their alignment (N * sizeof(T)) permits.
template <class T, int N>
struct alignas(sizeof(T) * N > 16 ? 16 : sizeof(T) * N) Pack {
  T v[N];
  __device__ void zero() {
#pragma unroll
    for (int i = 0; i < N; ++i) v[i] = from_float<T>(0.0f);
  }
};

template <class T>
struct TypeTag {
  using type = T;
};

// Calls f(TypeTag<T>) with the device type of a weights' dtype.
template <class F>
void with_type(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32:
      return f(TypeTag<float>{});
    case DType::f16:
      return f(TypeTag<__half>{});
    case DType::bf16:
      return f(TypeTag<__nv_bfloat16>{});
    case DType::f8:  // of the KV cache alone
      return;
  }
}
// The same with the KV cache's.
template <class F>
void with_kv_type(DType dtype, F&& f) {
  dtype == DType::f8 ? f(TypeTag<__nv_fp8_e4m3>{}) : with_type(dtype, f);
}
// The same for activations, which are bf16 or f32.
template <class F>
void with_activation_type(DType dtype, F&& f) {
  dtype == DType::bf16 ? f(TypeTag<__nv_bfloat16>{}) : f(TypeTag<float>{});
}

}  // namespace bolide
