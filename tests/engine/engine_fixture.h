// An engine on a tiny checkpoint, and a sink that keeps everything it is told.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "exec/reference_checkpoint.h"

namespace bolide::test {

struct Output {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;
  std::vector<std::vector<TokenLogprob>> top;
  std::vector<float> prompt_logprobs;
  int prompt_logprob_calls = 0;
  std::string text;
  FinishReason reason = FinishReason::none;
  std::optional<std::string> stop_match;
  std::optional<int32_t> stop_token;
  SequenceStats stats;
};

class Collector : public OutputSink {
 public:
  std::map<SequenceId, Output> outputs;
  std::vector<SequenceId> finished;  // in order
  std::function<void(const TokenEvent&)> on_each_token;

  void on_prompt_logprobs(SequenceId id, std::span<const float> logprobs) override {
    outputs[id].prompt_logprobs.assign(logprobs.begin(), logprobs.end());
    ++outputs[id].prompt_logprob_calls;
  }
  void on_token(const TokenEvent& event) override {
    Output& output = outputs[event.sequence];
    output.tokens.push_back(event.token_id);
    output.logprobs.push_back(event.logprob);
    output.top.emplace_back(event.top.begin(), event.top.end());
    output.text += event.text;
    if (on_each_token) on_each_token(event);
  }
  void on_finish(const FinishEvent& event) override {
    Output& output = outputs[event.sequence];
    output.reason = event.reason;
    output.stop_match = event.stop_match;
    output.stop_token = event.stop_token;
    output.text += event.text;
    output.stats = event.stats;
    finished.push_back(event.sequence);
  }
};

inline ModelSource reference_source(const std::string& name) {
  ModelSource source;
  source.folder = reference_folder(name);
  return source;
}

inline EngineOptions small_options() {
  EngineOptions options;
  options.device = {"cpu", 1};
  options.kv_dtype = DType::f32;
  options.max_num_batched_tokens = 64;
  options.chunk_tokens = 16;
  options.max_logprob_rows = 4;
  return options;
}

inline std::unique_ptr<Engine> text_engine(const EngineOptions& options = small_options()) {
  return Engine::load(reference_source("tiny-qwen3-text-bf16"), options);
}

inline SamplingParams greedy_params(int32_t max_tokens) {
  SamplingParams params;
  params.temperature = 0.0f;
  params.max_tokens = max_tokens;
  params.ignore_eos = true;
  return params;
}

// Runs until nothing is left; the bound turns a scheduler that makes no progress into a failure.
inline void run_all(Engine& engine) {
  for (int steps = 0; engine.step(); ++steps) {
    if (steps > 20000) throw std::runtime_error("the engine does not finish");
  }
}

inline Output run_one(Engine& engine, const std::vector<int32_t>& prompt, const SamplingParams& params) {
  Collector sink;
  const SequenceId id = engine.add(prompt, params, sink);
  run_all(engine);
  return sink.outputs.at(id);
}

struct Request {
  std::vector<int32_t> prompt;
  SamplingParams params;
};

// All at once, to their ends.
inline std::vector<Output> run_together(Engine& engine, const std::vector<Request>& requests) {
  Collector sink;
  std::vector<SequenceId> ids;
  for (const Request& request : requests) ids.push_back(engine.add(request.prompt, request.params, sink));
  run_all(engine);
  std::vector<Output> outputs;
  for (const SequenceId id : ids) outputs.push_back(sink.outputs.at(id));
  return outputs;
}

}  // namespace bolide::test
