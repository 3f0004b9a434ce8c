// The decode kernel: one row, or one each of several sequences, through all layers in one launch, against the ops one by one.
#include <algorithm>
#include <cstdio>
#include <limits>

#include "catch.h"
#include "core/error.h"
#include "decode_several.h"
#include "gpu.h"

using namespace bolide;
using namespace bolide::cuda_test;

namespace {

// Sequences of several lengths whose last tokens go through the kernel together.
const Positions kLast{0, 32, 31, 700, 64, 513, 1279, 200};
const std::vector<std::vector<int32_t>> kTogether{
    {0, 1, 2, 3}, {6, 3}, {5, 0, 4}, {6, 5, 4, 2}, {4, 3, 2, 1, 0}, {7, 6, 1, 5, 3, 2}, {0, 1, 2, 3, 4, 5, 6, 7}, {7, 0, 6, 1, 5, 2, 4}};

}  // namespace

TEST_CASE("decode kernel: as exact as the ops one by one, at every length of context") {
  check_errors("decode kernel: as exact as the ops one by one, at every length of context", decode_model(),
               {1, 2, 31, 32, 33, 34, 65, 200, 512, 513, 514, 1100, 1280});
}

TEST_CASE("decode kernel: what decode_form announces is what step_form finds") {
  const char* name = "decode kernel: what decode_form announces is what step_form finds";
  const auto backend = gpu(name);
  if (!backend) return;
  const StepModelOptions options = several_model(kLast);
  StepModel model(*backend, options);
  const std::optional<DecodeForm> form = backend->decode_form(
      {options.dims, DType::bf16, backend->activation_dtype(), options.chunk, options.chunks * options.sequences, 1280});
  REQUIRE(form.has_value());
  const bool one_kernel = runs_as_one_kernel(name, *backend, model);
  CHECK(form->one_kernel_up_to == (one_kernel ? 8 : 0));
  if (!one_kernel) CHECK(backend->step_form(model.single, 1).text.find(form->reason) != std::string::npos);
}

TEST_CASE("decode kernel: sliding window, GELU, no vectors") {
  StepModelOptions options = decode_model();
  options.vectors = false;
  options.window = 100;
  options.activation = GatedActivation::gelu_tanh;
  check_errors("decode kernel: sliding window, GELU, no vectors", options, {1, 50, 100, 101, 133, 700});
}

TEST_CASE("decode kernel: several sequences, each as exact as the ops one by one") {
  check_several("decode kernel: several sequences, each as exact as the ops one by one", several_model(kLast), kTogether, kLast);
}

TEST_CASE("decode kernel: several sequences, sliding window, GELU, no vectors") {
  StepModelOptions options = several_model(kLast);
  options.vectors = false;
  options.window = 100;
  options.activation = GatedActivation::gelu_tanh;
  check_several("decode kernel: several sequences, sliding window, GELU, no vectors", options, kTogether, kLast);
}

// Lengths of which some drop out of the rounds of blocks after a few, and a window that only the longer ones fill.
TEST_CASE("decode kernel: several sequences of thousands of tokens, with a window in one layer") {
  const Positions last{4700, 130, 2600, 3999, 64, 4095, 0, 1700};
  StepModelOptions options = several_model(last);
  options.window = 1500;
  check_several("decode kernel: several sequences of thousands of tokens, with a window in one layer", options,
                {{0, 1, 2, 3}, {2, 0}, {3, 0, 1}, {0, 1, 2, 3, 4, 5, 6, 7}, {5, 3, 7, 2, 0, 1}}, last);
}

TEST_CASE("decode kernel: a sequence's bits depend neither on those beside it nor on its place") {
  const char* name = "decode kernel: a sequence's bits depend neither on those beside it nor on its place";
  const auto backend = gpu(name);
  if (!backend) return;
  StepModel model(*backend, several_model(kLast));
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  std::vector<std::vector<float>> few = logits_of(*backend, model, {0, 1, 2, 3}, false, kLast);
  REQUIRE(backend->step_form(model.each, 1).text.rfind("one kernel", 0) == 0);
  for (const auto& logits : logits_of(*backend, model, {4, 5, 6, 7}, false, kLast)) few.push_back(logits);
  const std::vector<std::vector<float>> many = logits_of(*backend, model, {0, 1, 2, 3, 4, 5, 6, 7}, false, kLast);
  REQUIRE(backend->step_form(model.each, 1).text.rfind("one kernel", 0) == 0);
  const std::vector<std::vector<int32_t>> others{{3, 6},       {6, 3, 0},       {4, 3, 2, 1},          {1, 6, 2, 5},
                                                 {0, 1, 2, 3}, {7, 3, 6, 0, 5}, {6, 5, 4, 3, 2, 1, 0}, {1, 0, 3, 2, 5, 4, 7, 6}};
  for (int i = 0; i < 20; ++i) {
    for (const std::vector<int32_t>& which : others) {
      const auto some = logits_of(*backend, model, which, false, kLast);
      const auto& all = which.size() > 4 ? many : few;
      for (size_t at = 0; at < which.size(); ++at) {
        CAPTURE(which, at);
        REQUIRE(same_bits(some[at], all[static_cast<size_t>(which[at])]));
      }
    }
    last_logits(*backend, model, 2, false);  // the kernel for one row between them
    run_context(*backend, model, 1);
  }
}

TEST_CASE("decode kernel: several sequences draw what sample draws") {
  const char* name = "decode kernel: several sequences draw what sample draws";
  const auto backend = gpu(name);
  if (!backend) return;
  StepModel model(*backend, several_model(kLast));
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  const std::vector<int32_t> which = GENERATE(std::vector<int32_t>{2, 6, 0, 3}, std::vector<int32_t>{7, 2, 1, 6, 0, 3, 4, 5});
  for (uint64_t seed = 0; seed < 10; ++seed) {
    std::vector<SamplingSpec> specs(which.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      specs[i].temperature = 0.4f * static_cast<float>(i % 4);
      specs[i].seed = 100 * seed + i;
      specs[i].position = kLast[static_cast<size_t>(which[i])] + 1;
      specs[i].allowed_vocab = i % 2 ? 0 : 700;
    }
    last_step(model, which, kLast, specs);
    model.each.plain_sampling = true;
    REQUIRE(backend->step_form(model.each, 1).text.rfind("one kernel", 0) == 0);
    run(*backend, model.each, false);
    std::vector<int32_t> drawn;
    for (size_t i = 0; i < which.size(); ++i) drawn.push_back(model.token(static_cast<int32_t>(i)));
    model.each.plain_sampling = false;  // leaves the logits, and sample() behind the kernel
    run(*backend, model.each, false);
    backend->sample(std::get<SampleArgs>(model.each.ops.back()));
    backend->sync();
    for (size_t i = 0; i < which.size(); ++i) {
      CAPTURE(seed, i);
      CHECK(drawn[i] == model.token(static_cast<int32_t>(i)));
    }
  }
}

TEST_CASE("decode kernel: a hundred runs give the same bits") {
  const auto backend = gpu("decode kernel: a hundred runs give the same bits");
  if (!backend) return;
  StepModel model(*backend, decode_model());
  if (!runs_as_one_kernel("decode kernel: a hundred runs give the same bits", *backend, model)) return;
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
  if (!runs_as_one_kernel("decode kernel: draws what sample draws", *backend, model)) return;
  last_logits(*backend, model, 90, false);
  for (const float temperature : {0.0f, 0.6f, 1.0f, 3.0f}) {
    for (uint64_t seed = 0; seed < 10; ++seed) {
      SamplingSpec spec;
      spec.temperature = temperature;
      spec.seed = seed;
      spec.position = 90;
      spec.allowed_vocab = seed % 2 ? 0 : 700;
      const DrawnTokens drawn = draw_both_ways(*backend, model, 89, spec);
      CAPTURE(temperature, seed);
      CHECK(drawn.by_kernel == drawn.by_sample);
      if (seed % 2 == 0) CHECK(drawn.by_kernel < 700);
    }
  }
}

TEST_CASE("decode kernel: a token outside the vocabulary is an error") {
  const auto backend = gpu("decode kernel: a token outside the vocabulary is an error");
  if (!backend) return;
  StepModel model(*backend, decode_model());
  if (!runs_as_one_kernel("decode kernel: a token outside the vocabulary is an error", *backend, model)) return;
  for (const bool plain : {false, true}) {  // by a kernel that may go on
    model.single.plain_sampling = model.single.one_row_each = plain;
    model.fill(0, 1);
    model.set_tokens({1096});
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
}

// A word of four elements cannot hold every magnitude of the first (rows_words.cuh).
TEST_CASE("decode kernel: several sequences, activations out of bounds are an error") {
  const char* name = "decode kernel: several sequences, activations out of bounds are an error";
  const auto backend = gpu(name);
  if (!backend) return;
  StepModel model(*backend, several_model(kLast));
  if (!runs_as_one_kernel(name, *backend, model)) return;
  run_contexts(*backend, model, kLast);
  for (const std::vector<int32_t>& which : {std::vector<int32_t>{0, 1, 2}, std::vector<int32_t>{0, 1, 2, 3, 4}}) {
    for (const float scale : {1e30f, std::numeric_limits<float>::quiet_NaN(), 1.0f}) {
      last_step(model, which, kLast);
      model.each.plain_sampling = true;
      std::get<EmbedArgs>(model.each.ops.front()).scale = scale;
      REQUIRE(backend->step_form(model.each, 1).text.rfind("one kernel", 0) == 0);
      backend->run_step(model.each);
      std::string text;
      try {
        backend->sync();
      } catch (const Error& error) {
        text = error.what();
      }
      CAPTURE(which, scale, text);
      CHECK((text.find("logits") != std::string::npos) == (scale != 1.0f));
    }
  }
}
