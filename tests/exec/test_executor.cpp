// The forward pass as a list of ops, and what the executor refuses.
#include <algorithm>
#include <functional>

#include "catch.h"
#include "core/error.h"
#include "cpu/cpu_backend.h"
#include "error_text.h"
#include "exec/decoder.h"
#include "exec/executor.h"
#include "exec/memory_plan.h"
#include "exec/open_model.h"
#include "reference_checkpoint.h"

using namespace bolide;
using namespace bolide::test;

namespace {

struct Fixture {
  std::unique_ptr<Backend> backend = make_cpu_backend({});
  OpenModel model;
  Fixture() {
    ModelSource source;
    source.folder = reference_folder("tiny-mistral-window-f16");
    model = open_model(source);
  }
  std::unique_ptr<Executor> executor() {
    ExecutorOptions options;
    options.chunk_tokens = 16;
    options.kv_chunks = 4;
    options.capacity = step_capacity(8, 2, 2, 32, 16);
    return std::make_unique<Executor>(*backend, model.config, model.weights, options);
  }
};

Batch two_sequences() {
  Batch batch;
  batch.add_sequence(std::vector<int32_t>{1, 2, 3}, 0, std::vector<int32_t>{2}, 16);
  batch.add_sequence(std::vector<int32_t>{4}, 0, std::vector<int32_t>{0}, 16);
  batch.add_logits(2, {}, {}, {});
  batch.add_logits(3, {}, {}, {});
  return batch;
}

}  // namespace

TEST_CASE("a step is embed, five ops a layer, logits and sample") {
  Fixture fixture;
  const PreparedModel model = prepare_model(*fixture.backend, fixture.model.config, fixture.model.weights);
  CHECK(model.own_head != nullptr);
  CHECK(model.head == model.own_head.get());
  CHECK(model.layers[0].qkv->rows() == (5 + 1 + 1) * 24);
  CHECK(model.layers[0].qkv_bias == nullptr);
  const Step step = build_step(fixture.model.config, model, {}, nullptr, nullptr, {});
  REQUIRE(step.ops.size() == 5 * 2 + 3);
  CHECK(std::holds_alternative<EmbedArgs>(step.ops.front()));
  for (size_t layer = 0; layer < 2; ++layer) {
    const size_t at = 1 + 5 * layer;
    CHECK(std::get<NormQkvArgs>(step.ops[at]).layer == static_cast<int32_t>(layer));
    CHECK(std::get<AttentionArgs>(step.ops[at + 1]).window == 16);
    CHECK(std::get<ProjectAddArgs>(step.ops[at + 2]).weight == model.layers[layer].o.get());
    CHECK(std::get<NormGateUpArgs>(step.ops[at + 3]).gate_up == model.layers[layer].gate_up.get());
    CHECK(std::get<ProjectAddArgs>(step.ops[at + 4]).weight == model.layers[layer].down.get());
  }
  CHECK(std::holds_alternative<LogitsArgs>(step.ops[11]));
  CHECK(std::holds_alternative<SampleArgs>(step.ops[12]));
}

TEST_CASE("a tied head is prepared once") {
  Fixture fixture;
  ModelSource source;
  source.folder = reference_folder("tiny-gemma-bf16");
  const OpenModel gemma = open_model(source);
  const PreparedModel model = prepare_model(*fixture.backend, gemma.config, gemma.weights);
  CHECK(model.own_head == nullptr);
  CHECK(model.head == model.embed.get());
  // Gemma's norms count from one.
  const auto* norm = static_cast<const float*>(model.final_norm->data());
  CHECK(norm[0] == load_element(gemma.weights.final_norm.data, gemma.weights.final_norm.dtype, 0) + 1.0f);
}

TEST_CASE("the executor runs a batch, with logits rows and without") {
  Fixture fixture;
  const std::unique_ptr<Executor> executor = fixture.executor();
  CHECK(executor->workspace_bytes() == workspace_bytes(fixture.model.config, executor->options().capacity, DType::f32));
  CHECK(executor->kv_spec().bytes() == size_t{2} * 2 * 24 * 4 * 16 * 4);
  executor->submit(two_sequences());
  const std::span<const SampledToken> sampled = executor->wait();
  REQUIRE(sampled.size() == 2);
  const std::vector<float> logits = executor->download_logits();
  REQUIRE(logits.size() == 2 * 256);
  for (size_t row = 0; row < 2; ++row) {
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(row * 256);
    CHECK(sampled[row].id == std::max_element(begin, begin + 256) - begin);
  }
  Batch silent;
  silent.add_sequence(std::vector<int32_t>{9, 8}, 0, std::vector<int32_t>{1}, 16);
  executor->submit(silent);
  CHECK(executor->wait().empty());
  CHECK(executor->download_logits().empty());
}

TEST_CASE("the executor refuses a batch whose indices leave their arrays") {
  Fixture fixture;
  const std::unique_ptr<Executor> executor = fixture.executor();
  const std::vector<std::function<void(Batch&)>> damages = {
      [](Batch& b) { b.clear(); },
      [](Batch& b) { b.token_ids[1] = 256; },
      [](Batch& b) { b.token_ids[1] = -1; },
      [](Batch& b) { b.slots[0] = 64; },
      [](Batch& b) { b.slots[0] = -1; },
      [](Batch& b) { b.slots.pop_back(); },
      [](Batch& b) { b.positions[2] = 3; },
      [](Batch& b) { b.row_sequences[0] = 1; },
      [](Batch& b) { b.kv_lengths[0] = 17; },
      [](Batch& b) { b.kv_lengths[1] = 0; },
      [](Batch& b) { b.query_offsets[1] = 5; },
      [](Batch& b) { b.chunk_ids[0] = 4; },
      [](Batch& b) { b.chunk_offsets.back() = 1; },
      [](Batch& b) { b.logit_rows[0] = 4; },
      [](Batch& b) { b.sampling[0].target = 256; },
      [](Batch& b) { b.sampling[0].top_logprobs = kMaxTopLogprobs + 1; },
      [](Batch& b) { b.sampling[0].allowed_vocab = 257; },
      [](Batch& b) { b.sampling.pop_back(); },
      [](Batch& b) {
        b.seen.push_back({0, 0});
      },
      [](Batch& b) { b.add_logits(0, {}, {}, {}); },                                              // a third row of logits
      [](Batch& b) { b.add_sequence(std::vector<int32_t>{1}, 0, std::vector<int32_t>{1}, 16); },  // a third sequence
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    Batch batch = two_sequences();
    damages[i](batch);
    CAPTURE(i);
    CHECK(contains(error_of([&] { executor->submit(batch); }).first, "internal error"));
  }
  CHECK_THROWS_AS(executor->wait(), Error);  // nothing is under way
  executor->submit(two_sequences());
  executor->submit(two_sequences());
  CHECK_THROWS_AS(executor->submit(two_sequences()), Error);  // two at a time
  CHECK(executor->wait().size() == 2);
  CHECK(executor->wait().size() == 2);
}

TEST_CASE("a profile names every op of the step and leaves its results as they are") {
  Fixture fixture;
  const std::unique_ptr<Executor> executor = fixture.executor();
  executor->submit(two_sequences());
  executor->wait();
  const std::vector<float> expected = executor->download_logits();
  const StepProfile profile = executor->profile(two_sequences(), 3);
  const auto same = executor->download_logits();
  CHECK(same == expected);
  std::vector<std::string> names;
  double seconds = 0, bytes = 0;
  int32_t calls = 0;
  for (const OpProfile& op : profile.ops) {
    names.push_back(op.name);
    CHECK(op.seconds > 0);
    CHECK(op.median <= op.seconds);
    seconds += op.seconds;
    bytes += op.traffic.bytes();
    calls += op.calls;
  }
  CHECK(names == std::vector<std::string>{"embed", "norm_qkv", "attention", "project_add (o)", "norm_gate_up", "project_add (down)",
                                          "logits", "sample"});
  CHECK(calls == 5 * 2 + 3);
  CHECK(profile.ops_seconds == Approx(seconds));
  CHECK(profile.traffic.bytes() == bytes);
  CHECK(profile.step_seconds > 0);
  executor->submit(two_sequences());
  CHECK_THROWS_AS(executor->profile(two_sequences(), 1), Error);  // a step is under way
  executor->wait();
  CHECK_THROWS_AS(executor->profile(two_sequences(), 0), Error);
}

TEST_CASE("a step's profile takes medians of calls and sums of kinds") {
  Fixture fixture;
  const PreparedModel model = prepare_model(*fixture.backend, fixture.model.config, fixture.model.weights);
  const auto kv = fixture.backend->alloc_kv({2, 1, 24, 16, 1, DType::f32});
  const Step step = build_step(fixture.model.config, model, {}, nullptr, kv.get(), {});
  std::vector<OpTime> times(step.ops.size());
  for (size_t i = 0; i < times.size(); ++i) times[i] = {static_cast<double>(i + 1), static_cast<int32_t>(i % 3)};
  const StepProfile profile = step_profile(step, {1, {{1, 1}}}, times, {4.0, 1.0, 2.0, 9.0});
  CHECK(profile.step_seconds == 3.0);
  CHECK(profile.ops_seconds == 13 * 14 / 2);
  REQUIRE(profile.ops.size() == 8);
  CHECK(profile.ops[1].name == "norm_qkv");
  CHECK(profile.ops[1].calls == 2);
  CHECK(profile.ops[1].seconds == 2 + 7);
  CHECK(profile.ops[1].median == 4.5);
  CHECK(profile.ops[1].kernels == 1 + 0);
  CHECK(profile.kernels == 4 * (0 + 1 + 2));
}
