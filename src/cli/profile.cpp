// bolide profile: where a step's time goes.
#include <algorithm>

#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/log.h"
#include "cli/profile_report.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/streams.h"
#include "cli/values.h"
#include "core/thread_pool.h"
#include "engine/engine_load.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide profile -m DIR|NAME [FLAGS]
Times a prefill step and a decode step op by op: calls, time, bytes, share of the read bandwidth.

Model     -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                  (left out: the quickstart's model); --revision REV  --offline
          --random-weights SHAPE  instead: a config.json filled with random weights
                                  --random-dtype T, --random-seed N
Steps     -p, --n-prompt N,...    prefill steps of N tokens, all in one step (default 512; 0: none)
          -d, --n-depth N,...     decode steps with N tokens in the cache (default 0)
          -n, --n-gen 0|1         0: no decode steps (default 1)
          -b, --batch-size N      sequences in the decode steps (default 1)
          -r, --repetitions N     (default 20)    -s, --seed N   of the tokens, which are random
          --temperature F (0)     of the draw that ends a step; 0: greedy
Device    --device auto|cpu|cuda|cuda:N    --list-devices    -t, --threads N
          --kv-cache-dtype auto|float32|float16|bfloat16|fp8    --kv-cache-memory SIZE (2G)
          --gpu-memory-utilization F   what may be taken of a GPU's memory (default 0.9)
          --read-bandwidth GB/S   of the device if known; default: measured around each step
Output    -o, --output-format md|json|jsonl
Console   -q  -v  --log-level L  --log-file F  --color C, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

What the figures are
  median    of one call: the median over the repetitions, then over the calls of a step (layers)
  a step    sum of the calls' medians; its share is of the sum of all ops
  MB        weights, K and V and buffers between ops, each read or written once (a weight of many
            rows is counted once)
  all ops   marks between ops keep them from overlapping; 'the step as it runs' has none, and
            includes its start and its end
  kernels   launched by the op, where the device has kernels

Example
  bolide profile --random-weights configs/models/qwen3-0.6b.json -p 512 -d 0,4096
)";

struct Options {
  ModelOptions model;
  DeviceOptions device;
  MemoryOptions memory;
  ConsoleOptions console;
  std::string prompts = "512", depths = "0", format = "md";
  int32_t generate = 1, batch = 1, repetitions = 20;
  uint64_t seed = 0;
  double temperature = 0;
  double read_bandwidth = 0;  // GB/s; 0 = measure

  void add_to(Flags& flags) {
    model.add_to(flags);
    flags.value("-p,--n-prompt", prompts);
    flags.value("-d,--n-depth", depths);
    flags.value("-n,--n-gen", generate).in_range(0, 1);
    flags.value("-b,--batch-size", batch).in_range(1, 4096);
    flags.value("-r,--repetitions", repetitions).in_range(1, 100000);
    flags.value("-s,--seed", seed);
    flags.value("--temperature,--temp", temperature).not_negative();
    device.add_to(flags);
    memory.add_to(flags);
    flags.value("--read-bandwidth", read_bandwidth).positive();
    flags.value("-o,--output-format", format).one_of({"md", "json", "jsonl"});
    console.add_to(flags);
  }
};

constexpr int32_t kMostRows = 65536;  // as the engine allows for a step

std::vector<ProfiledStep> steps_of(const Options& options) {
  std::vector<ProfiledStep> steps;
  for (const int32_t prompt : parse_counts("--n-prompt", options.prompts, 0)) {
    if (prompt > kMostRows) throw UsageError(fmt::format("--n-prompt {}: a step has at most {} rows", prompt, kMostRows));
    if (prompt > 0) steps.push_back({.prefill = true, .rows = prompt});
  }
  for (const int32_t depth : parse_counts("--n-depth", options.depths, 0)) {
    if (options.generate > 0) steps.push_back({.rows = options.batch, .batch = options.batch, .depth = depth});
  }
  if (steps.empty()) throw UsageError("nothing to profile: --n-prompt and --n-gen are both 0");
  return steps;
}

// Batches for steps of a loaded model; sequence i keeps the i-th part of the KV cache.
class Batches {
 public:
  Batches(const LoadedModel& loaded, uint64_t seed, float temperature)
      : executor_(*loaded.executor),
        vocab_(loaded.model.config.vocab),
        seed_(seed),
        temperature_(temperature),
        rows_(loaded.limits.tokens) {}

  // `count` tokens of every sequence from `position` on, with a token drawn from each one's last row.
  Batch of(int32_t sequences, int32_t position, int32_t count) const {
    const int32_t chunk_tokens = executor_.options().chunk_tokens, each = executor_.options().kv_chunks / sequences;
    Batch batch;
    for (int32_t s = 0; s < sequences; ++s) {
      std::vector<int32_t> chunks(static_cast<size_t>((position + count + chunk_tokens - 1) / chunk_tokens));
      for (size_t i = 0; i < chunks.size(); ++i) chunks[i] = s * each + static_cast<int32_t>(i);
      BOLIDE_CHECK(chunks.size() <= static_cast<size_t>(each));
      const auto tokens = random_tokens(count, vocab_, seed_, static_cast<uint64_t>(s), static_cast<uint32_t>(position));
      const int32_t first = batch.add_sequence(tokens, position, chunks, chunk_tokens);
      SamplingSpec spec;
      spec.temperature = temperature_;
      spec.seed = seed_;
      spec.sequence = static_cast<uint64_t>(s);
      spec.position = static_cast<uint32_t>(position + count);
      batch.add_logits(first + count - 1, spec, {}, {});
    }
    return batch;
  }

  // Puts `depth` tokens of every sequence into the cache.
  void fill(int32_t sequences, int32_t depth) const {
    const int32_t most = rows_ / sequences;
    for (int32_t position = 0; position < depth; position += most) {
      executor_.submit(of(sequences, position, std::min(most, depth - position)));
      executor_.wait();
    }
  }

 private:
  Executor& executor_;
  int32_t vocab_;
  uint64_t seed_;
  float temperature_;
  int32_t rows_;
};

EngineOptions engine_options(const Options& options, const std::vector<ProfiledStep>& steps) {
  constexpr int32_t kFillRows = 512;  // of the steps that fill the cache
  EngineOptions result;
  result.device = options.device.request;
  options.memory.apply(result);
  result.max_logprob_rows = 0;
  result.max_num_seqs = options.generate > 0 ? options.batch : 1;
  result.max_num_batched_tokens = std::max(kFillRows, result.max_num_seqs);
  for (const ProfiledStep& step : steps) {
    result.ctx_size = std::max(result.ctx_size, int64_t{step.depth} + (step.prefill ? step.rows : 1));
    if (step.prefill) result.max_num_batched_tokens = std::max(result.max_num_batched_tokens, step.rows);
  }
  return result;
}

void require_room(const LoadedModel& loaded, const EngineOptions& wanted) {
  const int64_t room = int64_t{loaded.limits.kv_chunks / wanted.max_num_seqs} * wanted.chunk_tokens;
  if (wanted.ctx_size > loaded.info.ctx_size) {
    throw Error(fmt::format("a step needs a context of {} tokens, and the model has {}. Use a smaller --n-depth or --n-prompt",
                            wanted.ctx_size, loaded.info.ctx_size));
  }
  if (wanted.ctx_size > room) {
    throw MemoryError(
        fmt::format("{} sequences of {} tokens do not fit: the KV cache has room for {} tokens of each. Use a smaller "
                    "--batch-size or --n-depth",
                    wanted.max_num_seqs, wanted.ctx_size, room));
  }
}

void profile_steps(const Options& options, std::vector<ProfiledStep> steps, const Arguments& arguments, ResultStream& out,
                   const GracefulStop& stop) {
  const Progress progress(!options.console.no_progress && !options.console.quiet);
  progress.show("loading");
  const EngineOptions wanted = engine_options(options, steps);
  const LoadedModel loaded = load_engine(options.model.source(), wanted);
  for (const std::string& note : loaded.info.notes) log_debug("{}", note);
  require_room(loaded, wanted);
  Backend& backend = *loaded.device.backend;
  ProfileContext context{
      options.model.name(), command_text("profile", arguments), utc_now(), loaded.info, options.repetitions, options.temperature, 0};
  if (loaded.info.device.id == "cpu")
    context.threads = options.device.request.threads > 0 ? options.device.request.threads : default_threads().threads;

  const auto read_bandwidth = [&] {
    progress.show("measuring the read bandwidth");
    return options.read_bandwidth > 0 ? options.read_bandwidth * 1e9 : backend.measure_read_bandwidth();
  };
  const Batches batches(loaded, options.seed, static_cast<float>(options.temperature));
  double before = read_bandwidth();
  bool first = true;
  for (ProfiledStep& step : steps) {
    if (stop.requested() || out.failed()) break;
    progress.show(step.label());
    if (!step.prefill) batches.fill(step.batch, step.depth);
    step.before = backend.state();
    const Batch batch = step.prefill ? batches.of(1, 0, step.rows) : batches.of(step.batch, step.depth, 1);
    step.profile = loaded.executor->profile(batch, options.repetitions);
    step.after = backend.state();
    const double after = read_bandwidth();
    step.bandwidth = {before, after, options.read_bandwidth <= 0};
    before = after;
    progress.show("");
    const std::string json = options.format == "md" ? "" : json_text(profile_record(context, step));
    if (options.format == "md") out.write(profile_table(context, step));
    if (options.format == "jsonl") out.write(json + "\n");
    if (options.format == "json") out.write((first ? "[\n" : ",\n") + json);
    first = false;
    out.flush();
  }
  if (options.format == "json") out.write(first ? "[]\n" : "\n]\n");
}

}  // namespace

ExitCode run_profile(const Arguments& arguments) {
  Options options;
  Flags flags("profile", kHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  if (options.device.listed()) return ExitCode::ok;
  options.model.resolve();
  std::vector<ProfiledStep> steps = steps_of(options);
  ResultStream out;
  const GracefulStop stop;
  profile_steps(options, std::move(steps), arguments, out, stop);
  out.finish();
  return stop.requested().value_or(ExitCode::ok);
}

}  // namespace bolide
