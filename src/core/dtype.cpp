#include "core/dtype.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <string>

namespace bolide {

std::string_view dtype_name(DType t) {
  switch (t) {
    case DType::f32: return "float32";
    case DType::f16: return "float16";
    case DType::bf16: return "bfloat16";
    case DType::f8: return "fp8";
  }
  return "?";
}

std::string_view dtype_safetensors_name(DType t) {
  switch (t) {
    case DType::f32: return "F32";
    case DType::f16: return "F16";
    case DType::bf16: return "BF16";
    case DType::f8: return "F8_E4M3";
  }
  return "?";
}

std::optional<DType> parse_dtype(std::string_view name) {
  std::string low(name);
  std::transform(low.begin(), low.end(), low.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (low == "float32" || low == "f32" || low == "fp32" || low == "float") return DType::f32;
  if (low == "float16" || low == "f16" || low == "fp16" || low == "half") return DType::f16;
  if (low == "bfloat16" || low == "bf16") return DType::bf16;
  if (low == "fp8" || low == "fp8_e4m3" || low == "f8_e4m3") return DType::f8;
  return std::nullopt;
}

float f16_to_f32(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1fu;
  const uint32_t mantissa = bits & 0x3ffu;
  float out;
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact in float
    out = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -out : out;
  }
  const uint32_t wide = exponent == 31 ? (sign | 0x7f800000u | (mantissa << 13)) : (sign | ((exponent + 112) << 23) | (mantissa << 13));
  std::memcpy(&out, &wide, 4);
  return out;
}

uint16_t f32_to_f16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);   // NaN
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);  // >= 65536: infinity
  if (magnitude < 0x38800000u) {                                               // below 2^-14: subnormal half
    float absolute;
    std::memcpy(&absolute, &magnitude, 4);
    // Adding 0.5 places the half's last mantissa bit at the float's last bit; the FPU then rounds to nearest even.
    const float shifted = absolute + 0.5f;
    uint32_t shifted_bits;
    std::memcpy(&shifted_bits, &shifted, 4);
    return static_cast<uint16_t>(sign | (shifted_bits - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);  // may carry into infinity, as it should
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}

float f8_to_f32(uint8_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x80u) << 24;
  const uint32_t magnitude = bits & 0x7fu;
  if (magnitude == 0x7fu) return std::numeric_limits<float>::quiet_NaN();
  float out;
  if (magnitude < 8) {  // zero and subnormals: mantissa * 2^-9, exact in float
    out = static_cast<float>(magnitude) * 0x1p-9f;
    return sign ? -out : out;
  }
  const uint32_t wide = sign | ((magnitude << 20) + (120u << 23));
  std::memcpy(&out, &wide, 4);
  return out;
}

uint8_t f32_to_f8(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  const uint32_t sign = (bits >> 24) & 0x80u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  if (magnitude >= 0x43e00000u) return static_cast<uint8_t>(sign | 0x7eu);  // 448 and beyond
  if (magnitude < 0x3c800000u) {                                            // below 2^-6: subnormal
    float absolute;
    std::memcpy(&absolute, &magnitude, 4);
    // Adding 2^14 places the last mantissa bit, 2^-9, at the float's last bit; the FPU then rounds to nearest even.
    const float shifted = absolute + 0x1p14f;
    uint32_t shifted_bits;
    std::memcpy(&shifted_bits, &shifted, 4);
    return static_cast<uint8_t>(sign | (shifted_bits - 0x46800000u));
  }
  const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);  // below 448 it cannot carry beyond 448
  return static_cast<uint8_t>(sign | ((rounded - (120u << 23)) >> 20));
}

}  // namespace bolide
