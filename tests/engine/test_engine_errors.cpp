// Requests, options and files that are refused, word for word where the words are a promise.
#include <cmath>
#include <fstream>

#include "catch.h"
#include "core/human.h"
#include "engine/engine_load.h"
#include "engine/kv_plan.h"
#include "engine_fixture.h"
#include "exec/error_text.h"

using namespace bolide;
using namespace bolide::test;

namespace {

constexpr size_t kGiB = size_t{1} << 30;

// A 0.6B model on a device with 22 GiB.
KvRequest kv_request() {
  KvRequest request;
  request.model_context = 40960;
  request.bytes_per_token = 229376;
  request.free_bytes = request.limit_bytes = 22 * kGiB;
  request.weights_bytes = kGiB;
  request.workspace_bytes = kGiB / 64;
  request.device = "cpu";
  return request;
}

}  // namespace

TEST_CASE("prompts that cannot run are refused with both numbers") {
  EngineOptions options = small_options();
  const std::unique_ptr<Engine> engine = text_engine(options);
  Collector sink;
  const auto add = [&](const std::vector<int32_t>& prompt, int32_t max_tokens) {
    return error_of([&] { engine->add(prompt, greedy_params(max_tokens), sink); });
  };
  auto [text, code] = add(std::vector<int32_t>(1200, 1), 5);
  CHECK(text == "prompt has 1,200 tokens, context is 512 (from config.json). Shorten it, or --truncate left");
  CHECK(code == ExitCode::failed);
  CHECK(add(std::vector<int32_t>(512, 1), 5).first ==
        "prompt has 512 tokens, context is 512 (from config.json), which leaves no room for an answer. Shorten it, or --truncate left");
  CHECK(add({}, 5).first == "the prompt is empty: the model needs at least one token to go on from");
  CHECK(add({1, 384}, 5).first == "prompt id 384 (number 2 of 2) is outside the model's vocabulary: ids are 0 to 383");
  CHECK(contains(add({-1}, 5).first, "prompt id -1"));
  CHECK_FALSE(engine->step());
  engine->add(std::vector<int32_t>(512, 1), greedy_params(0), sink);
  engine->add(std::vector<int32_t>(511, 1), greedy_params(5), sink);
  run_all(*engine);
  CHECK(sink.outputs.at(2).tokens.size() == 1);

  options.ctx_size = 100;
  const std::unique_ptr<Engine> shorter = text_engine(options);
  CHECK(error_of([&] { shorter->add(std::vector<int32_t>(101, 1), greedy_params(1), sink); }).first ==
        "prompt has 101 tokens, context is 100 (--ctx-size). Shorten it, or --truncate left");
}

TEST_CASE("sampling parameters outside their range name the flag") {
  const float nan = std::nanf("");
  const auto refused = [](auto&& change, const std::string& flag) {
    SamplingParams params;
    change(params);
    const auto [text, code] = error_of([&] { params.validate(100); });
    CAPTURE(text);
    CHECK(contains(text, flag));
    CHECK(code == ExitCode::usage);
  };
  SamplingParams().validate(100);
  for (const float bad : {-0.1f, nan, INFINITY}) refused([&](SamplingParams& p) { p.temperature = bad; }, "--temperature");
  for (const float bad : {0.0f, 1.01f, nan}) refused([&](SamplingParams& p) { p.top_p = bad; }, "--top-p");
  for (const float bad : {-0.1f, 1.01f, nan}) refused([&](SamplingParams& p) { p.min_p = bad; }, "--min-p");
  for (const float bad : {0.0f, -1.0f, nan, INFINITY}) refused([&](SamplingParams& p) { p.repetition_penalty = bad; }, "--repeat-penalty");
  for (const float bad : {-2.1f, 2.1f, nan}) {
    refused([&](SamplingParams& p) { p.presence_penalty = bad; }, "--presence-penalty");
    refused([&](SamplingParams& p) { p.frequency_penalty = bad; }, "--frequency-penalty");
  }
  refused([](SamplingParams& p) { p.top_k = -2; }, "--top-k -2 is outside its range: 1 and more, 0 or -1 = off");
  refused([](SamplingParams& p) { p.repeat_last_n = -2; }, "--repeat-last-n");
  refused([](SamplingParams& p) { p.max_tokens = -1; }, "--max-tokens");
  refused([](SamplingParams& p) { p.logprobs = kMaxTopLogprobs + 1; }, "--logprobs 21 is outside its range: 0 to 20");
  refused([](SamplingParams& p) { p.stop = {"a", ""}; }, "--stop");
  refused([](SamplingParams& p) { p.stop_token_ids = {100}; }, "--stop-token-id 100 is outside its range: ids of this model are 0 to 99");
  refused([](SamplingParams& p) { p.logit_bias = {{-1, 0.0f}}; }, "--logit-bias id -1");
  refused([&](SamplingParams& p) { p.logit_bias = {{1, nan}}; }, "--logit-bias nan");
  refused([](SamplingParams& p) { p.logit_bias = {{1, INFINITY}}; }, "--logit-bias inf");
  refused([](SamplingParams& p) { p.logit_bias.assign(1025, {1, 0.0f}); }, "at most 1,024");
}

TEST_CASE("stop strings need a tokenizer, everything else does not") {
  const std::unique_ptr<Engine> engine = Engine::load(reference_source("tiny-qwen2-bf16"), small_options());
  CHECK(engine->tokenizer() == nullptr);
  CHECK(engine->eos_ids().empty());
  Collector sink;
  SamplingParams params = greedy_params(4);
  params.stop = {"x"};
  CHECK(contains(error_of([&] { engine->add({1}, params, sink); }).first, "--stop needs a tokenizer"));
  const Output output = run_one(*engine, {1, 2}, greedy_params(4));
  CHECK(output.tokens.size() == 4);
  CHECK(output.text.empty());
}

TEST_CASE("engine options outside their range are usage errors") {
  const auto refused = [](auto&& change, const std::string& part) {
    EngineOptions options = small_options();
    change(options);
    const auto [text, code] = error_of([&] { text_engine(options); });
    CAPTURE(text);
    CHECK(contains(text, part));
    CHECK(code == ExitCode::usage);
  };
  refused([](EngineOptions& o) { o.max_num_seqs = 0; }, "--max-num-seqs 0");
  refused([](EngineOptions& o) { o.max_num_batched_tokens = -1; }, "--max-num-batched-tokens -1");
  refused([](EngineOptions& o) { o.ctx_size = -1; }, "--ctx-size -1");
  refused([](EngineOptions& o) { o.kv_cache_bytes = -1; }, "--kv-cache-memory -1");
  refused([](EngineOptions& o) { o.chunk_tokens = 0; }, "KV chunk");
  for (const double bad : {0.0, -0.5, 1.01, std::nan("")})
    refused([bad](EngineOptions& o) { o.gpu_memory_utilization = bad; }, "--gpu-memory-utilization");
  refused([](EngineOptions& o) { o.max_logprob_rows = -1; }, "log-probability rows");
  refused([](EngineOptions& o) { o.max_num_seqs = 65; }, "--max-num-batched-tokens 64 is less than --max-num-seqs 65");
}

TEST_CASE("a step has the rows asked for, else as many as suit the device and one for each sequence") {
  const ChosenBackend cpu = choose_backend({"cpu", 1, false});
  EngineOptions options;
  CHECK(with_step_tokens(options, *cpu.backend).max_num_batched_tokens == 512);
  options.max_num_seqs = 600;
  CHECK(with_step_tokens(options, *cpu.backend).max_num_batched_tokens == 600);
  options.max_num_batched_tokens = 700;
  CHECK(with_step_tokens(options, *cpu.backend).max_num_batched_tokens == 700);
  EngineOptions small = small_options();
  CHECK(text_engine(small)->info().max_num_batched_tokens == 64);
  small.max_num_batched_tokens = 0;
  CHECK(text_engine(small)->info().max_num_batched_tokens == 512);
}

TEST_CASE("what the engine decided is in its info") {
  EngineOptions options = small_options();
  options.kv_dtype = DType::bf16;
  options.ctx_size = 1000;
  const std::unique_ptr<Engine> engine = text_engine(options);
  const EngineInfo& info = engine->info();
  CHECK(info.device.id == "cpu");
  CHECK(info.weights_dtype == DType::bf16);
  CHECK(info.kv_dtype == DType::bf16);
  CHECK(info.ctx_size == 512);
  CHECK(info.kv_bytes == size_t{512} * 2 * 2 * 2 * 16 * 2);
  CHECK(info.weights_bytes > 100000);
  CHECK(info.load_seconds > 0);
  REQUIRE(info.notes.size() == 2);
  CHECK(info.notes[0] == "--ctx-size 1,000 is more than the model's context: 512 is used");
  CHECK(info.notes[1] == "KV cache: 512 tokens in bfloat16, 128.0 KiB");
  CHECK(engine->generation_defaults().top_k == 20);
}

TEST_CASE("the KV plan takes what is needed, no more") {
  KvRequest request = kv_request();
  const KvPlan whole = plan_kv(request);
  CHECK(whole.ctx_size == 40960);
  CHECK(whole.ctx_source == "from config.json");
  CHECK(whole.chunks == 640);
  CHECK(whole.notes.empty());
  request.ctx_size = 1000;
  request.max_num_seqs = 3;
  const KvPlan three = plan_kv(request);
  CHECK(three.ctx_size == 1000);
  CHECK(three.ctx_source == "--ctx-size");
  CHECK(three.chunks == 48);
  request.max_num_seqs = 4096;
  const KvPlan crowd = plan_kv(request);
  CHECK(crowd.ctx_size == 1000);
  CHECK(crowd.chunks < 4096 * 16);
  CHECK(crowd.chunks >= 16);
  REQUIRE(crowd.notes.size() == 1);
  CHECK(contains(crowd.notes[0], "not 4,096 sequences of 1,000"));
}

TEST_CASE("a context that does not fit is refused with the one that does, or cut when nobody asked for it") {
  KvRequest request = kv_request();
  request.free_bytes = request.limit_bytes = 5 * kGiB;
  const KvPlan cut = plan_kv(request);
  CHECK(cut.ctx_size == int64_t{cut.chunks} * 64);
  CHECK(cut.ctx_size > 18000);
  CHECK(cut.ctx_size < 19000);
  REQUIRE(cut.notes.size() == 1);
  CHECK(contains(cut.notes[0], "context cut from 40,960 to"));

  request.ctx_size = 30000;
  const auto [text, code] = error_of([&] { plan_kv(request); });
  CHECK(text ==
        fmt::format("does not fit: weights 1.0 GiB + workspace 0.1 + KV 6.4 (30,000 tokens) > 5.0 GiB free on cpu. Fits: --ctx-size {}, "
                    "or --kv-cache-dtype bfloat16",
                    with_commas(cut.ctx_size)));
  CHECK(code == ExitCode::memory);
  request.ctx_size = cut.ctx_size;
  CHECK(plan_kv(request).ctx_size == cut.ctx_size);  // what the message promises holds

  request.free_bytes = request.limit_bytes = kGiB / 2;
  CHECK(contains(error_of([&] { plan_kv(request); }).first, "No context fits: free memory, or use a smaller model"));
  request.free_bytes = request.limit_bytes = 5 * kGiB;
  request.ctx_size = 30000;
  request.kv_cache_bytes = kGiB;
  CHECK(contains(error_of([&] { plan_kv(request); }).first,
                 "--kv-cache-memory 1.0 GiB holds 4,672 tokens, --ctx-size asks for 30,000. Use "
                 "--ctx-size 4,672, or give it 6"));
  request.ctx_size = 0;
  CHECK(plan_kv(request).ctx_size == 4672);
  CHECK(plan_kv(request).ctx_source == "--kv-cache-memory");
  request.kv_cache_bytes = 10 * kGiB;
  const auto [too_large, memory] = error_of([&] { plan_kv(request); });
  CHECK(contains(too_large, "--kv-cache-memory 10.0 GiB does not fit"));
  CHECK(memory == ExitCode::memory);
}

TEST_CASE("a share of a GPU's memory bounds the plan, and its errors name the share that fits") {
  const DeviceInfo gpu{"cuda:0", "GPU", 20 * kGiB, 19 * kGiB}, busy{"cuda:0", "GPU", 20 * kGiB, 3 * kGiB};
  CHECK(memory_limit(gpu, 0.5) == 10 * kGiB);
  CHECK(memory_limit(gpu, 1.0) == 19 * kGiB);
  CHECK(memory_limit(busy, 0.5) == 3 * kGiB);
  CHECK(memory_limit({"cpu", "CPU", 20 * kGiB, 19 * kGiB}, 0.5) == 19 * kGiB);

  KvRequest request = kv_request();
  request.device = "cuda:0";
  request.kv_dtype = DType::bf16;
  request.total_bytes = gpu.memory_total;
  request.free_bytes = gpu.memory_free;
  request.utilization = 0.25;
  request.limit_bytes = memory_limit(gpu, 0.25);
  const KvPlan cut = plan_kv(request);
  CHECK(cut.ctx_size > 18000);
  CHECK(cut.ctx_size < 19000);
  request.ctx_size = 30000;
  const auto [text, code] = error_of([&] { plan_kv(request); });
  CHECK(text ==
        fmt::format("does not fit: weights 1.0 GiB + workspace 0.1 + KV 6.4 (30,000 tokens) > 5.0 GiB of cuda:0 (--gpu-memory-utilization "
                    "0.25 of 20.0 GiB, 19.0 free). Fits: --ctx-size {}, or --gpu-memory-utilization 0.38",
                    with_commas(cut.ctx_size)));
  CHECK(code == ExitCode::memory);
  request.utilization = 0.38;
  request.limit_bytes = memory_limit(gpu, 0.38);
  CHECK(plan_kv(request).ctx_size == 30000);  // what the message promises holds
  request.utilization = 0.01;
  request.limit_bytes = memory_limit(gpu, 0.01);
  CHECK(contains(error_of([&] { plan_kv(request); }).first, "free). Fits: --gpu-memory-utilization 0.38"));
  request.kv_cache_bytes = kGiB;
  CHECK(contains(error_of([&] { plan_kv(request); }).first, "leave 0 B of 0.2 GiB of cuda:0 (--gpu-memory-utilization 0.01"));
}

TEST_CASE("what prefills in whole pieces take is planned before memory is allocated") {
  const std::unique_ptr<Engine> plain = text_engine();
  const DeviceInfo device = plain->backend().info();
  EngineOptions options = small_options();
  options.max_num_seqs = 3;
  options.max_num_batched_tokens = 100;
  options.max_logprob_rows = 0;
  for (const bool pieces : {false, true}) {
    options.deterministic = pieces;
    const std::unique_ptr<Engine> engine = text_engine(options);
    const EngineInfo& info = engine->info();
    const MemoryNeeds needs = memory_needs(engine->config(), info.weights_bytes, info.weights_dtype, options, engine->backend(), device);
    CAPTURE(pieces);
    CHECK(needs.capacity.sequences == 3 + (pieces ? 100 / 16 : 0));
    CHECK(info.workspace_bytes <= needs.request.workspace_bytes);
  }
}

TEST_CASE("generation_config.json is read with care") {
  const std::filesystem::path folder = scratch_folder() / "generation";
  std::filesystem::create_directories(folder);
  const auto load = [&](const std::string& text) {
    std::ofstream(folder / "generation_config.json") << text;
    return load_generation_config(folder);
  };
  CHECK(load_generation_config(scratch_folder() / "nowhere").eos_ids.empty());
  const GenerationDefaults qwen = load(
      R"({"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": null, "eos_token_id": [151645, 151643], "x": {}})");
  CHECK(qwen.do_sample == true);
  CHECK(qwen.temperature == 0.6f);
  CHECK(qwen.top_k == 20);
  CHECK(qwen.top_p == 0.95f);
  CHECK_FALSE(qwen.min_p.has_value());
  CHECK_FALSE(qwen.repetition_penalty.has_value());
  CHECK(qwen.eos_ids == std::vector<int32_t>{151645, 151643});
  CHECK(load(R"({"eos_token_id": 2, "repetition_penalty": 2})").eos_ids == std::vector<int32_t>{2});
  for (const std::string bad : {"", "{", "[]", "7", R"({"temperature": "warm"})", R"({"top_k": 1.5})", R"({"top_k": 99999999999})",
                                R"({"top_k": 18446744073709551615})", R"({"eos_token_id": ["a"]})", R"({"do_sample": 1})",
                                R"({"top_p": 1e300})", R"({"top_p": 1e999})"}) {
    const auto [text, code] = error_of([&] { load(bad); });
    CAPTURE(bad, text);
    CHECK(contains(text, "generation_config.json"));
    CHECK(code == ExitCode::model);
  }
  CHECK_THROWS_AS(load(std::string(1 << 21, ' ')), ModelError);
  CHECK_THROWS_AS(load(std::string(100000, '[')), ModelError);
}
