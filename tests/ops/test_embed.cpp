#include <cmath>

#include "catch.h"
#include "compare.h"
#include "core/error.h"
#include "fixture.h"
#include "reference.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {

struct EmbedCase {
  int32_t vocab, hidden, head_dim, first_position, rows;
  float scale;
};

std::vector<float> inverse_frequencies(int32_t head_dim, float base) {
  std::vector<float> out;
  for (int32_t i = 0; i < head_dim / 2; ++i)
    out.push_back(1.0f / std::pow(base, 2.0f * static_cast<float>(i) / static_cast<float>(head_dim)));
  return out;
}

void check_embed(Backend& backend, const EmbedCase& c, DType dtype, uint64_t seed) {
  Random random(seed);
  const TestMatrix table(backend, random, c.vocab, c.hidden, dtype);
  std::vector<int32_t> ids;
  for (int32_t t = 0; t < c.rows; ++t) ids.push_back(t == 0 ? c.vocab - 1 : t == 1 ? 0 : random.below(c.vocab));
  // Positions need no chunks of their own here; one long list of chunk 0 stands for them.
  TestSequence sequence{c.first_position, c.rows, std::vector<int32_t>(static_cast<size_t>((c.first_position + c.rows) / 16 + 1), 0)};
  const TestStep step(backend, {sequence}, 16, ids);
  backend.reserve(step.capacity, {c.hidden, 16, 1, 1, 1, c.head_dim, c.vocab});
  const std::vector<float> frequencies = inverse_frequencies(c.head_dim, 1e6f);
  const DeviceArray<float> device_frequencies(backend, frequencies);
  const DeviceArray<float> x(backend, static_cast<size_t>(c.rows) * static_cast<size_t>(c.hidden));
  const DeviceArray<float> rope(backend, static_cast<size_t>(c.rows) * static_cast<size_t>(c.head_dim));
  backend.embed({step.in(), table.matrix.get(), c.scale, device_frequencies.data(), x.data(), rope.data(), c.hidden, c.head_dim});

  std::vector<float> expected;
  for (int32_t id : ids) {
    for (int32_t i = 0; i < c.hidden; ++i) expected.push_back(table.values[static_cast<size_t>(id * c.hidden + i)] * c.scale);
  }
  // A widened element times a float32 has one right answer.
  CHECK(x.get() == expected);
  const Doubles angles = reference_rope(step.positions, frequencies);
  const std::vector<float> actual = rope.get();
  REQUIRE(actual.size() == angles.size());
  double worst = 0.0;
  for (size_t i = 0; i < actual.size(); ++i) worst = std::max(worst, std::abs(static_cast<double>(actual[i]) - angles[i]));
  // Half a unit of the last place near 1, doubled for device libraries.
  CHECK(worst <= 2 * 0x1p-24);
}

}  // namespace

TEST_CASE("embed: rows and rope angles, all dtypes, odd sizes, far positions") {
  const std::vector<EmbedCase> cases{
      {5, 8, 16, 0, 1, 1.0f}, {301, 577, 64, 3, 33, 1.0f}, {67, 1030, 80, 8000, 70, 32.078f}, {100, 64, 128, 131002, 70, 1.0f}};
  for_each_backend("embed", [&](Backend& backend) {
    for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (size_t i = 0; i < cases.size(); ++i) {
        INFO("case " << i << " " << dtype_name(dtype));
        check_embed(backend, cases[i], dtype, 100 + i);
      }
    }
  });
}

TEST_CASE("embed: the CPU refuses ids outside the table") {
  const auto backend = cpu_with_threads(2);
  Random random(1);
  const TestMatrix table(*backend, random, 10, 8, DType::f32);
  const DeviceArray<float> frequencies(*backend, inverse_frequencies(16, 1e4f)), x(*backend, 8), rope(*backend, 16);
  for (int32_t id : {-1, 10}) {
    const TestStep step(*backend, {{0, 1, {0}}}, 16, {id});
    backend->reserve(step.capacity, {8, 16, 1, 1, 1, 16, 10});
    CHECK_THROWS_AS(backend->embed({step.in(), table.matrix.get(), 1.0f, frequencies.data(), x.data(), rope.data(), 8, 16}), Error);
  }
}
