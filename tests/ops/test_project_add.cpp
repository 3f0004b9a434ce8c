#include "catch.h"
#include "compare.h"
#include "fixture.h"
#include "reference.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {

struct ProjectCase {
  int32_t rows;
  int64_t outputs, inputs;
  bool bias;
};

void check_project_add(Backend& backend, const ProjectCase& c, DType dtype, uint64_t seed) {
  Random random(seed);
  const TestMatrix weight(backend, random, c.outputs, c.inputs, dtype);
  const auto rows = static_cast<size_t>(c.rows), n = static_cast<size_t>(c.outputs), k = static_cast<size_t>(c.inputs);
  const std::vector<float> h = round_to(random.normals(rows * k), backend.activation_dtype()), before = random.normals(rows * n, 3.0f);
  const std::vector<float> bias = c.bias ? random.normals(n) : std::vector<float>();
  const TestStep step(backend, {{0, c.rows, std::vector<int32_t>(rows, 0)}}, 16);
  backend.reserve(step.capacity, {static_cast<int32_t>(n), static_cast<int32_t>(k), 1, 1, 1, 16, 16});
  const Activations device_h(backend, h);
  const DeviceArray<float> device_bias(backend, bias), x(backend, before);
  backend.project_add({step.in(), device_h.buffer(), weight.matrix.get(), c.bias ? device_bias.data() : nullptr, x.data(), 0});

  Doubles expected = reference_product(widen(h), weight.values, c.inputs, bias);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] += static_cast<double>(before[i]);
  // Neither h nor x is rounded here.
  CHECK(difference(x.get(), expected, c.outputs, product_tolerance(c.inputs, DType::f32)) == "");
}

}  // namespace

TEST_CASE("project_add: all dtypes, row counts, odd sizes, bias") {
  const std::vector<ProjectCase> cases{{1, 64, 64, false},     {1, 33, 129, true},      {2, 576, 192, false}, {3, 40, 1025, true},
                                       {5, 131, 77, false},    {7, 96, 256, true},      {8, 17, 512, false},  {16, 64, 48, true},
                                       {33, 70, 130, true},    {64, 65, 96, false},     {70, 257, 63, true},  {20, 100, 640, true},
                                       {100, 260, 1088, true}, {150, 516, 1100, false}, {256, 68, 200, true}};
  for_each_backend_and_target("project_add", [&](Backend& backend) {
    for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (size_t i = 0; i < cases.size(); ++i) {
        INFO("case " << i << " " << dtype_name(dtype));
        check_project_add(backend, cases[i], dtype, 200 + i);
      }
    }
  });
}
