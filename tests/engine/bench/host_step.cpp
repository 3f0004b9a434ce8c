// What the host does for a step of many sequences: an engine whose device computes nothing, timed part by part.
//
//   host_step_bench [sequences [prompt [output]]]
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <new>

#include "engine/deferred_backend.h"
#include "engine/engine_load.h"
#include "exec/reference_checkpoint.h"

using namespace bolide;
using namespace bolide::test;

namespace {

std::atomic<int64_t> allocations{0};

class Counter final : public OutputSink {
 public:
  void on_token(const TokenEvent&) override { ++tokens; }
  void on_finish(const FinishEvent&) override {}
  int64_t tokens = 0;
};

// A model as small as may be: it is only carried about.
std::unique_ptr<Engine> idle_engine(int32_t sequences, int32_t context) {
  ModelSource source;
  source.random_shape = scratch_folder() / "shape.json";
  std::ofstream(source.random_shape) << R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64,
    "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 64,
    "vocab_size": 1024, "max_position_embeddings": 65536, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "silu",
    "tie_word_embeddings": true, "bos_token_id": 1, "eos_token_id": 2})";
  EngineOptions options;
  options.device = {"cpu", 1};
  options.ctx_size = context;
  options.max_num_seqs = sequences;
  options.max_num_batched_tokens = 2048;
  options.max_logprob_rows = 0;
  options.prefix_cache = false;
  auto device = std::make_unique<DeferredBackend>(choose_backend(options.device).backend, DeferredBackend::Steps::counted);
  return make_engine(load_engine(source, options, {std::move(device), "computes nothing"}));
}

}  // namespace

void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes > 0 ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

int main(int argc, char** argv) {
  const auto argument = [&](int index, int value) { return argc > index ? std::atoi(argv[index]) : value; };
  const int32_t sequences = argument(1, 256), prompt = argument(2, 512), output = argument(3, 512);
  const std::unique_ptr<Engine> engine = idle_engine(sequences, prompt + output);
  SamplingParams params;
  params.temperature = 0.6f;
  params.ignore_eos = true;
  params.max_tokens = output;
  Counter sink;
  for (int32_t i = 0; i < sequences; ++i) engine->add(std::vector<int32_t>(static_cast<size_t>(prompt), i), params, sink);
  // All prompts prefilled, and a few steps more.
  while (engine->counters().tokens < int64_t{sequences} * prompt + 8 * sequences) engine->step();
  const EngineCounters before = engine->counters();
  const int64_t allocated = allocations;
  while (sink.tokens < int64_t{sequences} * output * 3 / 4) engine->step();
  const EngineCounters after = engine->counters();
  const double steps = static_cast<double>(after.steps - before.steps), tokens = static_cast<double>(after.tokens - before.tokens);
  const auto ms = [&](double EngineCounters::*part) { return 1e3 * (after.*part - before.*part) / steps; };
  const double prepare = ms(&EngineCounters::prepare_seconds), submit = ms(&EngineCounters::submit_seconds),
               deliver = ms(&EngineCounters::deliver_seconds);
  std::printf(
      "%d sequences of %d + %d tokens, %.0f steps of %.1f rows: %.4f ms a step (prepare %.4f, submit %.4f, deliver %.4f), "
      "%.4f allocations a token\n",
      sequences, prompt, output, steps, tokens / steps, prepare + submit + deliver, prepare, submit, deliver,
      static_cast<double>(allocations - allocated) / tokens);
  return 0;
}
