#include <cmath>
#include <limits>

#include "catch.h"
#include "core/dtype.h"

using namespace bolide;

TEST_CASE("every half converts to float and back unchanged") {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float wide = f16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(wide)) {
      CHECK(std::isnan(f16_to_f32(f32_to_f16(wide))));
    } else if (f32_to_f16(wide) != bits) {
      FAIL("half " << bits << " came back as " << f32_to_f16(wide));
    }
  }
}

TEST_CASE("float to half rounds to nearest even at every boundary") {
  // Halfway between two neighbouring halves goes to the even one; a little off goes to the nearer one.
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = f16_to_f32(static_cast<uint16_t>(bits)), high = f16_to_f32(static_cast<uint16_t>(bits + 1));
    const float middle = static_cast<float>((low + high) / 2);
    const uint16_t even = static_cast<uint16_t>((bits & 1) ? bits + 1 : bits);
    if (f32_to_f16(middle) != even) FAIL("midpoint above half " << bits);
    if (f32_to_f16(std::nextafter(middle, -1.0f)) != bits) FAIL("below the midpoint above half " << bits);
    if (f32_to_f16(std::nextafter(middle, 1e9f)) != bits + 1) FAIL("above the midpoint above half " << bits);
  }
  CHECK(f32_to_f16(65519.0f) == 0x7bff);
  CHECK(f32_to_f16(65520.0f) == 0x7c00);
  CHECK(f32_to_f16(-std::numeric_limits<float>::infinity()) == 0xfc00);
}

TEST_CASE("float to bfloat16 rounds to nearest even and keeps NaN") {
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {
    const float low = bf16_to_f32(static_cast<uint16_t>(bits));
    if (f32_to_bf16(low) != bits) FAIL("bfloat16 " << bits);
    uint32_t wide = (bits << 16) | 0x8000u;  // midpoint
    float middle;
    std::memcpy(&middle, &wide, 4);
    if (f32_to_bf16(middle) != ((bits & 1) ? bits + 1 : bits)) FAIL("midpoint above bfloat16 " << bits);
  }
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("fp8 (e4m3): its values, rounding to nearest even at every boundary, saturation") {
  CHECK(f8_to_f32(0x7e) == 448.0f);
  CHECK(f8_to_f32(0x38) == 1.0f);
  CHECK(f8_to_f32(0x01) == 0x1p-9f);
  CHECK(f8_to_f32(0x08) == 0x1p-6f);
  CHECK(f8_to_f32(0x07) == 7 * 0x1p-9f);
  CHECK(std::isnan(f8_to_f32(0x7f)));
  CHECK(std::isnan(f8_to_f32(0xff)));
  for (uint32_t bits = 0; bits < 0x100; ++bits) {
    const float wide = f8_to_f32(static_cast<uint8_t>(bits));
    CHECK((std::isnan(wide) ? (f32_to_f8(wide) & 0x7f) == 0x7f : f32_to_f8(wide) == bits));
  }
  for (uint32_t bits = 0; bits < 0x7e; ++bits) {
    const float low = f8_to_f32(static_cast<uint8_t>(bits)), high = f8_to_f32(static_cast<uint8_t>(bits + 1));
    CHECK(low < high);
    const float middle = (low + high) / 2;
    CHECK(f32_to_f8(middle) == ((bits & 1) != 0 ? bits + 1 : bits));
    CHECK(f32_to_f8(std::nextafter(middle, -1.0f)) == bits);
    CHECK(f32_to_f8(std::nextafter(middle, 1e9f)) == bits + 1);
    CHECK(f32_to_f8(-middle) == (f32_to_f8(middle) | 0x80));
  }
  for (const float large : {448.0f, 464.0f, 480.0f, 1e9f, std::numeric_limits<float>::infinity()}) {
    CHECK(f32_to_f8(large) == 0x7e);
    CHECK(f32_to_f8(-large) == 0xfe);
  }
  CHECK(f32_to_f8(std::numeric_limits<float>::denorm_min()) == 0);
  CHECK(f32_to_f8(-0.0f) == 0x80);
}

TEST_CASE("dtype names of config.json, safetensors and the command line") {
  CHECK(parse_dtype("bfloat16") == DType::bf16);
  CHECK(parse_dtype("BF16") == DType::bf16);
  CHECK(parse_dtype("half") == DType::f16);
  CHECK(parse_dtype("float") == DType::f32);
  CHECK_FALSE(parse_dtype("int8").has_value());
  CHECK(parse_dtype("fp8_e4m3") == DType::f8);
  CHECK(dtype_size(DType::f8) == 1);
  for (DType t : {DType::f32, DType::f16, DType::bf16, DType::f8}) {
    CHECK(parse_dtype(dtype_name(t)) == t);
    CHECK(parse_dtype(dtype_safetensors_name(t)) == t);
  }
}
