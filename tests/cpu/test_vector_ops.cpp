#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "catch.h"
#include "cpu/simd_each.h"
#include "cpu/vector_ops.h"

using namespace bolide;

namespace {

std::vector<float> random_floats(size_t n, float scale, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> out(n);
  for (float& value : out) value = normal(engine);
  return out;
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

double reference_activation(GatedActivation activation, double x) {
  switch (activation) {
    case GatedActivation::silu:
      return x * sigmoid(x);
    case GatedActivation::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case GatedActivation::gelu_erf:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
  }
  return 0.0;
}

const int64_t kLengths[] = {1, 2, 3, 15, 16, 17, 63, 64, 65, 100, 577, 1024};

}  // namespace

TEST_CASE("rms_norm agrees with double at every length and in place") {
  for_each_simd_target([](const std::string& target) {
    INFO(target);
    for (const int64_t n : kLengths) {
      const auto x = random_floats(static_cast<size_t>(n), 3.0f, 1), weight = random_floats(static_cast<size_t>(n), 1.0f, 2);
      double squares = 0.0;
      for (const float value : x) squares += static_cast<double>(value) * value;
      const double scale = 1.0 / std::sqrt(squares / static_cast<double>(n) + 1e-5);
      std::vector<float> out(static_cast<size_t>(n)), in_place = x;
      rms_norm(x.data(), weight.data(), 1e-5f, n, out.data());
      rms_norm(in_place.data(), weight.data(), 1e-5f, n, in_place.data());
      CHECK(in_place == out);
      for (size_t i = 0; i < out.size(); ++i) {
        const double want = x[i] * scale * weight[i];
        REQUIRE(std::abs(out[i] - want) <= 1e-6 * std::abs(want));
      }
    }
  });
}

TEST_CASE("rms_norm of zeroes is zero, of NaN is NaN") {
  for_each_simd_target([](const std::string& target) {
    INFO(target);
    const std::vector<float> weight(37, 2.0f);
    std::vector<float> x(37, 0.0f), out(37, 1.0f);
    rms_norm(x.data(), weight.data(), 1e-6f, 37, out.data());
    CHECK(out == x);
    x[36] = std::numeric_limits<float>::quiet_NaN();
    rms_norm(x.data(), weight.data(), 1e-6f, 37, out.data());
    for (const float value : out) CHECK(std::isnan(value));
  });
}

TEST_CASE("rotate_halves rotates pairs of the two halves") {
  for_each_simd_target([](const std::string& target) {
    INFO(target);
    for (const int64_t half : {1, 3, 16, 24, 32, 40, 64}) {
      const auto head = random_floats(static_cast<size_t>(2 * half), 1.0f, 3);
      std::vector<float> rope;
      for (int64_t i = 0; i < half; ++i) {
        rope.push_back(std::cos(0.37f * static_cast<float>(i)));
        rope.push_back(std::sin(0.37f * static_cast<float>(i)));
      }
      auto out = head;
      rotate_halves(out.data(), rope.data(), half);
      for (int64_t i = 0; i < half; ++i) {
        const double a = head[static_cast<size_t>(i)], b = head[static_cast<size_t>(i + half)];
        const double c = rope[static_cast<size_t>(2 * i)], s = rope[static_cast<size_t>(2 * i + 1)];
        REQUIRE(std::abs(out[static_cast<size_t>(i)] - (a * c - b * s)) < 1e-6 * (std::abs(a) + std::abs(b)));
        REQUIRE(std::abs(out[static_cast<size_t>(i + half)] - (b * c + a * s)) < 1e-6 * (std::abs(a) + std::abs(b)));
      }
    }
  });
}

TEST_CASE("gated activations agree with double over the whole range") {
  std::vector<float> gate, up;
  for (float x = -30.0f; x <= 30.0f; x += 0.0137f) gate.push_back(x);
  for (const float x : {0.0f, -0.0f, 1e-30f, -1e-30f, -80.0f, -100.0f, 100.0f, 1e4f, -1e4f, 1e15f, -1e15f}) gate.push_back(x);
  up = random_floats(gate.size(), 1.0f, 4);
  for_each_simd_target([&](const std::string& target) {
    for (const auto activation : {GatedActivation::silu, GatedActivation::gelu_tanh, GatedActivation::gelu_erf}) {
      std::vector<float> out(gate.size());
      gated_activation(activation, gate.data(), up.data(), static_cast<int64_t>(gate.size()), out.data());
      for (size_t i = 0; i < gate.size(); ++i) {
        INFO(target << ", activation " << static_cast<int>(activation) << ", x = " << gate[i]);
        const double want = reference_activation(activation, gate[i]) * up[i];
        // Relative to the value where it matters, to |x| where the activation has all but vanished.
        REQUIRE(std::abs(out[i] - want) <= 1e-6 * std::abs(want) + 2e-7 * std::abs(gate[i] * up[i]) * (gate[i] < 0 ? 1.0 : 0.0) + 1e-37);
      }
    }
  });
}

TEST_CASE("gated activations keep NaN and do not depend on the place in the row") {
  for_each_simd_target([](const std::string& target) {
    INFO(target);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (const auto activation : {GatedActivation::silu, GatedActivation::gelu_tanh, GatedActivation::gelu_erf}) {
      const std::vector<float> ones(35, 1.0f), nans(35, nan), same(35, -1.234567f);
      std::vector<float> out(35);
      gated_activation(activation, nans.data(), ones.data(), 35, out.data());
      for (const float value : out) CHECK(std::isnan(value));
      gated_activation(activation, same.data(), ones.data(), 35, out.data());
      for (const float value : out) CHECK(value == out[0]);
    }
  });
}

TEST_CASE("add adds") {
  for_each_simd_target([](const std::string& target) {
    INFO(target);
    for (const int64_t n : kLengths) {
      auto x = random_floats(static_cast<size_t>(n), 1.0f, 5);
      const auto y = random_floats(static_cast<size_t>(n), 1.0f, 6);
      const auto before = x;
      add(x.data(), y.data(), n);
      for (size_t i = 0; i < x.size(); ++i) REQUIRE(x[i] == before[i] + y[i]);
    }
  });
}

TEST_CASE("store_rounded rounds exactly as the scalar conversions do") {
  std::vector<float> x = random_floats(300, 1.0f, 7);
  for (const uint32_t bits :
       {0u,          0x80000000u, 0x7f800000u, 0xff800000u, 0x7f7fffffu, 0x3f808000u, 0x3f818000u, 0x3f807fffu, 0x3f808001u,
        0x477fe000u, 0x477fefffu, 0x477ff000u, 0x33800000u, 0x33000000u, 0x33000001u, 0x43e00000u, 0x43dfffffu, 0x43d80000u,
        0x43e80001u, 0xc3e80000u, 0x3c800000u, 0x3c7fffffu, 0x3b000000u, 0x3a800000u, 0x3a800001u, 0x3b400000u, 0xbbc00000u,
        0x3f880000u, 0x3f980000u, 0x38800000u, 0x387fe000u, 0x3f801000u, 0x3f803000u, 0x00000001u, 0x007fffffu}) {
    float value;
    std::memcpy(&value, &bits, 4);
    x.push_back(value);
  }
  for_each_simd_target([&](const std::string& target) {
    INFO(target);
    for (size_t start : {size_t{0}, size_t{1}, size_t{7}}) {
      const auto n = static_cast<int64_t>(x.size() - start);
      std::vector<uint16_t> bf16(x.size()), f16(x.size());
      std::vector<float> f32(x.size());
      store_rounded(x.data() + start, n, DType::bf16, bf16.data() + start);
      store_rounded(x.data() + start, n, DType::f16, f16.data() + start);
      store_rounded(x.data() + start, n, DType::f32, f32.data() + start);
      std::vector<uint8_t> f8(x.size());
      store_rounded(x.data() + start, n, DType::f8, f8.data() + start);
      for (size_t i = start; i < x.size(); ++i) {
        INFO(x[i]);
        REQUIRE(bf16[i] == f32_to_bf16(x[i]));
        REQUIRE(f16[i] == f32_to_f16(x[i]));
        REQUIRE(f32[i] == x[i]);
        REQUIRE(f8[i] == f32_to_f8(x[i]));
      }
    }
    const std::vector<float> nans(20, std::numeric_limits<float>::quiet_NaN());
    std::vector<uint16_t> out(20);
    store_rounded(nans.data(), 20, DType::bf16, out.data());
    for (const uint16_t bits : out) CHECK(std::isnan(bf16_to_f32(bits)));
    store_rounded(nans.data(), 20, DType::f16, out.data());
    for (const uint16_t bits : out) CHECK(std::isnan(f16_to_f32(bits)));
    std::vector<uint8_t> bytes(20);
    store_rounded(nans.data(), 20, DType::f8, bytes.data());
    for (const uint8_t bits : bytes) CHECK(std::isnan(f8_to_f32(bits)));
  });
}
