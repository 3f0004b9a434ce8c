// Element types of weights, activations and the KV cache, and exact scalar conversions between them.
// C++17 and free of the standard library's heavy headers, so that .cu files can include it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

namespace bolide {

// f8: e4m3, for the KV cache alone (4 bits of exponent, 3 of mantissa, no infinity, largest 448; Micikevicius et al., arXiv:2209.05433).
enum class DType : uint8_t { f32, f16, bf16, f8 };

constexpr size_t dtype_size(DType t) { return t == DType::f32 ? 4 : t == DType::f8 ? 1 : 2; }

// "float32", "float16", "bfloat16", "fp8": config.json's and the command line's names.
std::string_view dtype_name(DType t);
// "F32", "F16", "BF16", "F8_E4M3": safetensors' names.
std::string_view dtype_safetensors_name(DType t);
// Accepts both families and the aliases fp32, float, fp16, half, f16, bf16, f32, fp8_e4m3 (any case); nothing for other names.
std::optional<DType> parse_dtype(std::string_view name);

inline float bf16_to_f32(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float out;
  std::memcpy(&out, &wide, 4);
  return out;
}

// Rounds to nearest, ties to even; NaN stays NaN.
inline uint16_t f32_to_bf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);  // nearest, ties to even; overflow to infinity; NaN stays NaN

float f8_to_f32(uint8_t bits);
// Nearest, ties to even; beyond 448 saturates, infinities too; NaN stays NaN.
uint8_t f32_to_f8(float value);

// Element i of a packed array.
inline float load_element(const void* data, DType t, size_t i) {
  switch (t) {
    case DType::f32: return static_cast<const float*>(data)[i];
    case DType::f16: return f16_to_f32(static_cast<const uint16_t*>(data)[i]);
    case DType::bf16: return bf16_to_f32(static_cast<const uint16_t*>(data)[i]);
    case DType::f8: return f8_to_f32(static_cast<const uint8_t*>(data)[i]);
  }
  return 0.0f;
}

}  // namespace bolide
