#include "catch.h"
#include "compare.h"
#include "fixture.h"
#include "reference.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {

struct LogitsCase {
  int32_t tokens, hidden, vocab;
  std::vector<int32_t> rows;
};

void check_logits(Backend& backend, const LogitsCase& c, DType dtype, uint64_t seed) {
  Random random(seed);
  const TestMatrix head(backend, random, c.vocab, c.hidden, dtype);
  const auto d = static_cast<size_t>(c.hidden);
  const std::vector<float> x = random.normals(static_cast<size_t>(c.tokens) * d, 4.0f), norm = random.normals(d);
  const TestStep step(backend, {{0, c.tokens, std::vector<int32_t>(static_cast<size_t>(c.tokens), 0)}}, 16, {}, c.rows);
  backend.reserve(step.capacity, {c.hidden, 16, 1, 1, 1, 16, c.vocab});
  const DeviceArray<float> device_x(backend, x), device_norm(backend, norm);
  const DeviceArray<float> logits(backend, c.rows.size() * static_cast<size_t>(c.vocab));
  backend.logits({step.in(), device_x.data(), device_norm.data(), 1e-6f, head.matrix.get(), logits.data(), c.hidden, c.vocab});

  std::vector<float> gathered;
  for (int32_t row : c.rows) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(row) * c.hidden;
    gathered.insert(gathered.end(), begin, begin + c.hidden);
  }
  const Doubles expected = reference_product(reference_rms_norm(widen(gathered), c.hidden, norm, 1e-6), head.values, c.hidden, {});
  CHECK(difference(logits.get(), expected, c.vocab, product_tolerance(c.hidden, backend.activation_dtype())) == "");
}

}  // namespace

TEST_CASE("logits: gathered rows, all dtypes, odd vocabularies") {
  std::vector<int32_t> all;
  for (int32_t r = 0; r < 40; ++r) all.push_back(r);
  const std::vector<LogitsCase> cases{
      {1, 64, 256, {0}}, {5, 576, 1003, {4}}, {9, 65, 517, {0, 3, 8}}, {70, 130, 333, {69, 2, 2, 40, 7}}, {40, 96, 131, all}};
  for_each_backend_and_target("logits", [&](Backend& backend) {
    for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
      for (size_t i = 0; i < cases.size(); ++i) {
        INFO("case " << i << " " << dtype_name(dtype));
        check_logits(backend, cases[i], dtype, 400 + i);
      }
    }
  });
}
