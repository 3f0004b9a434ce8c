#include <limits>

#include "catch.h"
#include "compare.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {
const std::vector<double> kExpected{1.0, -2.0, 3.0, 4.0, 0.5, -0.25};
std::vector<float> floats(const std::vector<double>& values) { return {values.begin(), values.end()}; }
}  // namespace

TEST_CASE("compare: equal values differ by nothing, also when all are negative or zero") {
  CHECK(difference(floats(kExpected), kExpected, 3, 0.0) == "");
  CHECK(difference({-1.0f, -2.0f}, std::vector<double>{-1.0, -2.0}, 2, 0.0) == "");
  CHECK(difference({0.0f, 0.0f}, std::vector<double>{0.0, 0.0}, 2, 1e-6) == "");
  CHECK(difference({}, std::vector<double>{}, 2, 1e-6) == "");
}

TEST_CASE("compare: errors count against the norm of their row") {
  auto actual = floats(kExpected);
  actual[4] += 1e-3f;  // row 1 has norm 4.04
  CHECK(difference(actual, kExpected, 3, 3e-4) == "");
  CHECK(difference(actual, kExpected, 3, 2e-4) != "");
  // A small row's error is not hidden by a large one.
  CHECK(difference({1000.0f, 0.0011f}, std::vector<double>{1000.0, 0.001}, 1, 1e-2) != "");
  CHECK(difference({1000.0f, 0.0011f}, std::vector<double>{1000.0, 0.001}, 2, 1e-2) == "");
}

TEST_CASE("compare: wrong signs, NaN, infinities, zeros and sizes are differences") {
  auto actual = floats(kExpected);
  for (float& v : actual) v = -v;
  CHECK(difference(actual, kExpected, 3, 0.1) != "");
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    actual = floats(kExpected);
    actual[2] = bad;
    CHECK(difference(actual, kExpected, 3, 1e9) != "");
  }
  auto expected = kExpected;
  expected[5] = std::numeric_limits<double>::quiet_NaN();
  CHECK(difference(floats(expected), expected, 3, 1e9) != "");
  CHECK(difference({0.0f, 1e-30f}, std::vector<double>{0.0, 0.0}, 2, 1e-3) != "");
  CHECK(difference({0.0f, 0.0f}, std::vector<double>{1.0, 1.0}, 2, 0.5) != "");
  CHECK(difference({1.0f}, std::vector<double>{1.0, 1.0}, 1, 1e9) != "");
  CHECK(difference({1.0f, 1.0f, 1.0f}, std::vector<double>{1.0, 1.0, 1.0}, 2, 1e9) != "");
  CHECK(difference({1.0f}, std::vector<double>{1.0}, 0, 1e9) != "");
}

TEST_CASE("compare: tolerances grow with the number of terms and with the activations' roundoff") {
  CHECK(product_tolerance(64, DType::f32) < 3e-6);
  CHECK(product_tolerance(4096, DType::f32) > product_tolerance(64, DType::f32));
  CHECK(product_tolerance(64, DType::bf16) > 0x1p-8);
  CHECK(product_tolerance(64, DType::bf16) < 0x1p-6);
}
