#include <cmath>
#include <cstring>

#include "catch.h"
#include "caught.h"
#include "io/weight_store.h"

using namespace bolide;

namespace {

std::vector<float> values(WeightSource& source, const std::string& name, const Shape& shape) {
  const TensorView view = source.require(name, shape);
  REQUIRE(view);
  std::vector<float> out(static_cast<size_t>(view.elements()));
  for (size_t i = 0; i < out.size(); ++i) out[i] = load_element(view.data, view.dtype, i);
  return out;
}

}  // namespace

TEST_CASE("random weights depend on seed, name and index alone") {
  const auto a = make_random_weights(DType::f32, 7), b = make_random_weights(DType::f32, 7), c = make_random_weights(DType::f32, 8);
  const auto w = values(*a, "w", {30, 64});
  values(*b, "other", {10, 10});  // the order of requests changes nothing
  CHECK(values(*b, "w", {30, 64}) == w);
  CHECK(values(*c, "w", {30, 64}) != w);
  CHECK(values(*a, "v", {30, 64}) != w);
  // A taller matrix of the same width begins with the same rows.
  const auto d = make_random_weights(DType::f32, 7);
  auto taller = values(*d, "w", {50, 64});
  taller.resize(w.size());
  CHECK(taller == w);
}

TEST_CASE("a tensor filled by several threads equals the one filled by one") {
  // 1.5 million elements are split among threads; the first 600,000 of the same name alone are not.
  const auto many = make_random_weights(DType::bf16, 3), few = make_random_weights(DType::bf16, 3);
  const TensorView large = many->require("w", {1500, 1000}), small = few->require("w", {600, 1000});
  CHECK(std::memcmp(large.data, small.data, small.bytes()) == 0);
}

TEST_CASE("matrices have mean 0 and variance 1 / columns, and no element repeats its neighbour") {
  const auto source = make_random_weights(DType::f32, 1);
  const auto w = values(*source, "w", {512, 256});
  double sum = 0, squares = 0, neighbours = 0;
  float largest = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    sum += w[i];
    squares += static_cast<double>(w[i]) * w[i];
    if (i > 0) neighbours += static_cast<double>(w[i]) * w[i - 1];
    largest = std::max(largest, std::abs(w[i]));
  }
  const double n = static_cast<double>(w.size()), variance = 1.0 / 256;
  CHECK(std::abs(sum / n) < 5 * std::sqrt(variance / n));
  CHECK(squares / n == Approx(variance).epsilon(0.02));
  CHECK(std::abs(neighbours / n) < 5 * variance / std::sqrt(n));
  CHECK(largest <= std::sqrt(3.0 * variance));
  CHECK(largest > 0.999 * std::sqrt(3.0 * variance));
}

TEST_CASE("the dtypes hold the same values, rounded") {
  const auto f32 = make_random_weights(DType::f32, 5), f16 = make_random_weights(DType::f16, 5), bf16 = make_random_weights(DType::bf16, 5);
  const auto w = values(*f32, "w", {9, 31});
  const auto h = values(*f16, "w", {9, 31}), b = values(*bf16, "w", {9, 31});
  for (size_t i = 0; i < w.size(); ++i) {
    if (h[i] != f16_to_f32(f32_to_f16(w[i])) || b[i] != bf16_to_f32(f32_to_bf16(w[i]))) FAIL("element " << i);
  }
}

TEST_CASE("norms are 1 and biases are small but not zero") {
  for (DType t : {DType::f32, DType::f16, DType::bf16}) {
    const auto source = make_random_weights(t, 0);
    for (float v : values(*source, "model.norm.weight", {33})) CHECK(v == 1.0f);
    double squares = 0;
    for (float v : values(*source, "q_proj.bias", {33})) {
      CHECK(std::abs(v) <= 0.0501f);
      squares += v * v;
    }
    CHECK(squares > 0);
  }
}

TEST_CASE("a random source keeps views alive, gives the same one again and has no problems") {
  const auto source = make_random_weights(DType::bf16, 12);
  CHECK_FALSE(source->contains("w"));
  const void* first = source->require("w", {4, 4}).data;
  for (int i = 0; i < 100; ++i) source->require(fmt::format("x{}", i), {64, 64});
  CHECK(source->require("w", {4, 4}).data == first);
  CHECK(source->contains("w"));
  CHECK(source->unread().empty());
  CHECK_NOTHROW(source->throw_problems());
  CHECK(source->description() == "random weights, seed 12");
  CHECK(source->require("big", {1 << 12, 1 << 10}).data != nullptr);
  CHECK(reinterpret_cast<uintptr_t>(source->require("big", {1 << 12, 1 << 10}).data) % (2 << 20) == 0);  // a huge page's border
}

TEST_CASE("random weights beyond the machine's memory are refused, not attempted") {
  const auto source = make_random_weights(DType::f32, 0);
  const Caught error = caught([&] { source->require("w", {int64_t{1} << 30, int64_t{1} << 30}); });
  CHECK(error.says("random weights do not fit: 'w' [1073741824,1073741824] exceeds the"));
  CHECK(error.code == ExitCode::memory);
  CHECK(caught([&] { source->require("v", {int64_t{1} << 40, int64_t{1} << 40}); }).code == ExitCode::memory);
}
