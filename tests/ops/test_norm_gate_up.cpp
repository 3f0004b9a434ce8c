#include <cmath>

#include "catch.h"
#include "compare.h"
#include "fixture.h"
#include "reference.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {

struct GateUpCase {
  int32_t rows, hidden, mlp;
  bool bias;
};

void check_norm_gate_up(Backend& backend, const GateUpCase& c, DType dtype, GatedActivation activation, uint64_t seed) {
  Random random(seed);
  const auto rows = static_cast<size_t>(c.rows), d = static_cast<size_t>(c.hidden), f = static_cast<size_t>(c.mlp);
  // Sums of about 1.5 in size, where the activations bend.
  const TestMatrix gate_up(backend, random, 2 * c.mlp, c.hidden, dtype, 2, 1.5f / std::sqrt(static_cast<float>(c.hidden)));
  const std::vector<float> x = random.normals(rows * d, 5.0f), bias = c.bias ? random.normals(2 * f) : std::vector<float>();
  std::vector<float> norm = random.normals(d, 0.2f);
  for (float& v : norm) v += 1.0f;
  const float eps = 1e-5f;
  const TestStep step(backend, {{0, c.rows, std::vector<int32_t>(rows, 0)}}, 16);
  backend.reserve(step.capacity, {c.hidden, c.mlp, 1, 1, 1, 16, 16});
  const DeviceArray<float> device_x(backend, x), device_norm(backend, norm), device_bias(backend, bias);
  const Activations out(backend, rows * f);
  backend.norm_gate_up({step.in(), device_x.data(), device_norm.data(), eps, gate_up.matrix.get(), c.bias ? device_bias.data() : nullptr,
                        activation, out.buffer(), 0, c.hidden, c.mlp});

  const Doubles sums =
      reference_product(reference_rms_norm(widen(x), c.hidden, norm, static_cast<double>(eps)), gate_up.values, c.hidden, bias);
  Doubles expected;
  for (size_t t = 0; t < rows; ++t) {
    for (size_t i = 0; i < f; ++i) expected.push_back(reference_activation(activation, sums[t * 2 * f + i]) * sums[t * 2 * f + f + i]);
  }
  // Two products are multiplied and the activation's slope is at most 1.13: twice the bound of one product, and a few roundings.
  CHECK(device_x.get() == x);
  CHECK(difference(out.get(), expected, c.mlp, 2.5 * product_tolerance(c.hidden, backend.activation_dtype())) == "");
}

}  // namespace

TEST_CASE("norm_gate_up: all dtypes and activations, row counts, odd sizes, bias") {
  const std::vector<GateUpCase> cases{{1, 64, 96, false},    {1, 131, 70, true},     {2, 576, 160, false}, {4, 96, 257, true},
                                      {7, 80, 64, false},    {33, 65, 130, false},   {70, 256, 48, true},  {20, 320, 52, true},
                                      {100, 336, 100, true}, {150, 704, 146, false}, {256, 128, 98, true}, {300, 192, 150, true}};
  for_each_backend_and_target("norm_gate_up", [&](Backend& backend) {
    for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (auto activation : {GatedActivation::silu, GatedActivation::gelu_tanh, GatedActivation::gelu_erf}) {
        for (size_t i = 0; i < cases.size(); ++i) {
          INFO("case " << i << " " << dtype_name(dtype) << " activation " << static_cast<int>(activation));
          check_norm_gate_up(backend, cases[i], dtype, activation, 300 + i);
        }
      }
    }
  });
}

TEST_CASE("norm_gate_up: large sums neither overflow nor lose the sign") {
  for_each_backend("norm_gate_up, large sums", [&](Backend& backend) {
    Random random(7);
    const TestMatrix gate_up(backend, random, 2 * 32, 64, DType::f32, 2, 30.0f);
    const std::vector<float> x = random.normals(64), norm(64, 1.0f);
    const TestStep step(backend, {{0, 1, {0}}}, 16);
    backend.reserve(step.capacity, {64, 32, 1, 1, 1, 16, 16});
    const DeviceArray<float> device_x(backend, x), device_norm(backend, norm);
    for (auto activation : {GatedActivation::silu, GatedActivation::gelu_tanh, GatedActivation::gelu_erf}) {
      const Activations out(backend, 32);
      backend.norm_gate_up(
          {step.in(), device_x.data(), device_norm.data(), 1e-6f, gate_up.matrix.get(), nullptr, activation, out.buffer(), 0, 64, 32});
      const Doubles sums = reference_product(reference_rms_norm(widen(x), 64, norm, 1e-6), gate_up.values, 64, {});
      Doubles expected;
      for (size_t i = 0; i < 32; ++i) expected.push_back(reference_activation(activation, sums[i]) * sums[32 + i]);
      CHECK(difference(out.get(), expected, 32, 2.5 * product_tolerance(64, backend.activation_dtype())) == "");
    }
  });
}
