// A whole step of a two-layer model with random weights, run op by op, eagerly as a step, captured, and replayed with other inputs.
#include <algorithm>

#include "catch.h"
#include "core/error.h"
#include "gpu.h"
#include "step_model.h"

using namespace bolide;
using namespace bolide::cuda_test;

namespace {

StepModelOptions of_rows(int32_t rows, int32_t head_dim = 16) {
  StepModelOptions options;
  options.rows = rows;
  options.dims.head_dim = head_dim;
  options.chunks = std::max(options.chunks, 4 * rows / options.chunk + 1);
  return options;
}

struct Outcome {
  std::vector<float> logits;
  int32_t token;
};

// Four runs over growing positions, the last with fewer rows than the capacity.
std::vector<Outcome> run(Backend& backend, int32_t rows, DType kv, bool as_step) {
  StepModelOptions options = of_rows(rows, rows > 8 ? 64 : 16);  // products of many rows end in heads of 64
  options.kv = kv;
  StepModel model(backend, options);
  std::vector<Outcome> outcomes;
  for (int32_t i = 0; i < 4; ++i) {
    model.fill(i * rows, i < 3 ? rows : (rows + 1) / 2);
    if (as_step)
      backend.run_step(model.step);
    else
      backend.Backend::run_step(model.step);
    backend.sync();
    outcomes.push_back({model.logits(), model.token()});
  }
  return outcomes;
}

}  // namespace

TEST_CASE("a captured step gives the bits of its ops one by one") {
  const auto backend = cuda_test::gpu("a captured step gives the bits of its ops one by one");
  if (!backend) return;
  for (const DType kv : {DType::bf16, DType::f8}) {
    for (const int32_t rows : {1, 3, 8, 20, 100, 150}) {
      INFO("rows " << rows << ", KV " << dtype_name(kv));
      const auto eager = run(*backend, rows, kv, false), graph = run(*backend, rows, kv, true);
      for (size_t i = 0; i < eager.size(); ++i) {
        INFO("run " << i);
        CHECK(same_bits(eager[i].logits, graph[i].logits));
        CHECK(eager[i].token == graph[i].token);
        const auto best = std::max_element(eager[i].logits.begin(), eager[i].logits.end());
        CHECK(eager[i].token == best - eager[i].logits.begin());
      }
      CHECK_FALSE(same_bits(graph[0].logits, graph[1].logits));
    }
  }
}

TEST_CASE("a step of few rows agrees with a step of many") {
  const auto backend = cuda_test::gpu("a step of few rows agrees with a step of many", DType::f32);
  if (!backend) return;
  // 24 positions as 24 single rows, as 8 x 3 and as one piece of 24: the same last logits in float32.
  const auto last = [&](int32_t rows, int32_t runs) {
    StepModel model(*backend, of_rows(rows));
    for (int32_t i = 0; i < runs; ++i) {
      model.fill(i * rows, rows);
      backend->run_step(model.step);
      backend->sync();
    }
    return model.logits();
  };
  const std::vector<float> whole = last(24, 1);
  double norm = 0.0;
  for (const float v : whole) norm += static_cast<double>(v) * v;
  REQUIRE(norm > 0.0);
  for (const auto& pieces : {last(1, 24), last(3, 8), last(12, 2)}) {
    double error = 0.0;
    for (size_t i = 0; i < whole.size(); ++i)
      error += (static_cast<double>(pieces[i]) - whole[i]) * (static_cast<double>(pieces[i]) - whole[i]);
    CHECK(error < 1e-10 * norm);
  }
}

TEST_CASE("ops are timed one by one, and the step's results stay what they are") {
  const auto backend = cuda_test::gpu("ops are timed one by one, and the step's results stay what they are");
  if (!backend) return;
  for (const int32_t rows : {1, 20}) {
    StepModel model(*backend, of_rows(rows));
    model.fill(0, rows);
    backend->run_step(model.step);
    backend->sync();
    const std::vector<float> expected = model.logits();
    const std::vector<OpTime> times = backend->time_ops(model.step, 3);
    REQUIRE(times.size() == model.step.ops.size());
    for (const OpTime& time : times) {
      CHECK(time.seconds >= 0);  // an event's clock does not resolve the shortest ops
      CHECK(time.seconds < 0.1);
      CHECK(time.kernels > 0);
    }
    CHECK(same_bits(model.logits(), expected));
    backend->run_step(model.step);
    backend->sync();
    CHECK(same_bits(model.logits(), expected));
  }
}

TEST_CASE("what only the device sees becomes an error") {
  const auto backend = cuda_test::gpu("what only the device sees becomes an error");
  if (!backend) return;
  StepModel model(*backend, of_rows(1));
  model.fill(0, 1);
  model.set_tokens({StepModelOptions().dims.vocab});
  backend->run_step(model.step);
  std::string text;
  try {
    backend->sync();
  } catch (const Error& error) {
    text = error.what();
  }
  CHECK(text.find("token id 200") != std::string::npos);
  model.fill(0, 1);
  backend->run_step(model.step);
  backend->sync();  // the fault is gone with its report
}
