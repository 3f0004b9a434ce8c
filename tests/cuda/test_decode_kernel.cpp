// The decode kernel: one row through all layers in one launch, against the ops one by one.
#include "catch.h"
#include "core/error.h"
#include "gpu.h"
#include "step_model.h"

using namespace bolide;
using namespace bolide::cuda_test;

namespace {

// Two layers of a shape that the kernel is compiled for, and a small vocabulary.
StepModelOptions decode_model(const ModelDims& dims = {1024, 3072, 2, 16, 8, 128, 1096}) {
  StepModelOptions options;
  options.dims = dims;
  options.rows = 64;
  options.chunk = 64;
  options.chunks = 20;
  options.vectors = true;
  return options;
}

bool is_one_kernel(Backend& backend, const StepModel& model) { return backend.step_form(model.single, 1).text.rfind("one kernel", 0) == 0; }

// Logits after the last of `positions` tokens: those before it in pieces, it alone. ops: one by one.
std::vector<float> last_logits(Backend& backend, StepModel& model, int32_t positions, bool ops) {
  for (int32_t first = 0; first < positions - 1; first += 64) {
    model.fill(first, std::min(64, positions - 1 - first));
    backend.Backend::run_step(model.step);
  }
  model.fill(positions - 1, 1);
  if (ops)
    backend.Backend::run_step(model.single);
  else
    backend.run_step(model.single);
  backend.sync();
  return model.logits();
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0.0, norm = 0.0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    norm += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(sum / norm);
}

// The kernel's logits may be as far from float32's as those of the ops one by one, which round at the same places.
void check_errors(const StepModelOptions& options, const std::vector<int32_t>& lengths) {
  const auto bf16 = gpu("decode kernel"), f32 = gpu("decode kernel", DType::f32);
  StepModel model(*bf16, options), exact(*f32, options);
  if (!is_one_kernel(*bf16, model)) {
    std::printf("skipped: decode kernel (%s)\n", bf16->step_form(model.single, 1).text.c_str());
    return;
  }
  CHECK_FALSE(is_one_kernel(*f32, exact));
  for (const int32_t positions : lengths) {
    const std::vector<float> expected = last_logits(*f32, exact, positions, true);
    const double ops = distance(last_logits(*bf16, model, positions, true), expected);
    const double kernel = distance(last_logits(*bf16, model, positions, false), expected);
    CAPTURE(positions, ops, kernel);
    CHECK(ops > 0.0);
    CHECK(kernel < 1.5 * ops);
    CHECK(kernel < 0.05);
  }
}

}  // namespace

TEST_CASE("decode kernel: as exact as the ops one by one, at every length of context") {
  if (!gpu("decode kernel: as exact as the ops one by one, at every length of context")) return;
  check_errors(decode_model(), {1, 2, 31, 32, 33, 34, 65, 200, 512, 513, 514, 1100, 1280});
}

TEST_CASE("decode kernel: sliding window, GELU, no vectors") {
  if (!gpu("decode kernel: sliding window, GELU, no vectors")) return;
  StepModelOptions options = decode_model();
  options.vectors = false;
  options.window = 100;
  options.activation = GatedActivation::gelu_tanh;
  check_errors(options, {1, 50, 100, 101, 133, 700});
}

TEST_CASE("decode kernel: other shapes") {
  if (!gpu("decode kernel: other shapes")) return;
  check_errors(decode_model({2048, 6144, 2, 16, 8, 128, 1024}), {1, 40, 600});
  check_errors(decode_model({2048, 8192, 2, 32, 8, 64, 1024}), {1, 40, 64, 65, 66, 1100});
}

TEST_CASE("decode kernel: a hundred runs give the same bits") {
  const auto backend = gpu("decode kernel: a hundred runs give the same bits");
  if (!backend) return;
  StepModel model(*backend, decode_model());
  const std::vector<float> first = last_logits(*backend, model, 300, false);
  for (int i = 0; i < 100; ++i) {
    backend->run_step(model.single);
    backend->sync();
    REQUIRE(same_bits(model.logits(), first));
  }
}

TEST_CASE("decode kernel: draws what sample draws") {
  const auto backend = gpu("decode kernel: draws what sample draws");
  if (!backend) return;
  StepModel model(*backend, decode_model());
  last_logits(*backend, model, 90, false);
  for (const float temperature : {0.0f, 0.6f, 1.0f, 3.0f}) {
    for (uint64_t seed = 0; seed < 10; ++seed) {
      SamplingSpec spec;
      spec.temperature = temperature;
      spec.seed = seed;
      spec.position = 90;
      spec.allowed_vocab = seed % 2 ? 0 : 700;
      model.fill(89, 1, spec);
      model.single.plain_sampling = true;
      backend->run_step(model.single);
      backend->sync();
      const int32_t drawn = model.token();
      backend->sample(std::get<SampleArgs>(model.single.ops.back()));
      backend->sync();
      CAPTURE(temperature, seed);
      CHECK(drawn == model.token());
      if (seed % 2 == 0) CHECK(drawn < 700);
    }
  }
}

TEST_CASE("decode kernel: a token outside the vocabulary is an error") {
  const auto backend = gpu("decode kernel: a token outside the vocabulary is an error");
  if (!backend) return;
  StepModel model(*backend, decode_model());
  model.fill(0, 1);
  model.set_token(1096);
  backend->run_step(model.single);
  std::string text;
  try {
    backend->sync();
  } catch (const Error& error) {
    text = error.what();
  }
  CHECK(text.find("token id 1096") != std::string::npos);
  model.fill(0, 1);
  backend->run_step(model.single);
  backend->sync();  // the fault is gone with its report
}
