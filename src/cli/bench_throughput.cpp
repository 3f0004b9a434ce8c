// bolide bench throughput: many requests at once, or as they arrive.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/log.h"
#include "cli/progress.h"
#include "cli/streams.h"
#include "cli/throughput_report.h"
#include "core/human.h"
#include "core/messages.h"
#include "core/thread_pool.h"
#include "models/architecture.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide bench throughput -m DIR|NAME [FLAGS]
Sends many requests through the engine; reports tokens per second and what each waited for.

Model     -m, --model DIR|NAME        folder, or Org/Name[@REV] in the Hugging Face cache
                                      (left out: the quickstart's model); --revision REV  --offline
          --random-weights SHAPE      instead: a config.json filled with random weights
                                      --random-dtype T, --random-seed N
Requests  --workload FILE             a JSON object: num_prompts, seed, temperature, input_len and
                                      output_len (N or [least, most]), token_ids ([least, most])
          --num-prompts N (100)  --input-len N (256)  --output-len N (128)
          --temperature F (0)  -s, --seed N (0)
          --random-range-ratio F      lengths from len * (1 - F) to len * (1 + F) (default 0)
          --request-rate F            requests per second, at random moments (Poisson);
                                      default inf: all at once
          --warmup, --no-warmup       before the run: as many sequences, short ones (default: yes)
Engine    --max-num-seqs N            sequences side by side (default 256)
          --max-num-batched-tokens N  rows of a step: prompts are cut into such pieces (2048)
          --kv-cache-dtype auto|float32|float16|bfloat16|fp8    --kv-cache-memory SIZE (2G)
          --gpu-memory-utilization F  what may be taken of a GPU's memory (default 0.9)
Device    --device auto|cpu|cuda|cuda:N    --list-devices    -t, --threads N
          --cpu-products float32|bfloat16   bfloat16: activations are rounded before each product
          --read-bandwidth GB/S       of the device if known; default: measured around the run
Output    -o, --output-format text|json|jsonl    --output-json FILE   the JSON record as well
Console   -q  -v  --log-level L  --log-file F  --color C, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

What the figures are
  tokens/s  of the time from the first request to the last token; prompts are random, the prefix
            cache is off, end-of-text is ignored; no tokenizer, no loading
  TTFT      from a request's arrival to its first token      E2EL   to its last one
  TPOT      (E2EL - TTFT) / (tokens - 1), per request        ITL    between neighbouring tokens
  K and V   what output tokens but a request's first read: K and V of all tokens before them
  ceiling   (fewest steps x weight bytes + K and V read) / read bandwidth, without the prompts'
            arithmetic; fewest steps: --max-num-seqs side by side, a token of each in every step
  host      planning a step, handing it over, delivering its tokens; on a GPU beside its work

Example
  bolide bench throughput --random-weights configs/models/qwen3-0.6b.json \
      --workload configs/bench/nano-vllm.json
)";

struct Options {
  ModelOptions model;
  DeviceOptions device;
  ConsoleOptions console;
  MemoryOptions memory;
  std::string workload, format = "text", json_file;
  std::optional<int32_t> num_prompts, input_len, output_len;
  std::optional<uint64_t> seed;
  std::optional<float> temperature;
  double range_ratio = 0;
  std::string request_rate = "inf";
  bool warmup = true;
  int32_t max_num_seqs = 256, max_num_batched_tokens = 2048;
  double read_bandwidth = 0;  // GB/s; 0 = measure

  void add_to(Flags& flags) {
    model.add_to(flags);
    const Flag file = flags.value("--workload", workload);
    flags.value("--num-prompts", num_prompts).in_range(1, 1 << 20);
    flags.value("--input-len,--random-input-len", input_len).in_range(1, 1 << 22).excludes(file);
    flags.value("--output-len,--random-output-len", output_len).in_range(1, 1 << 22).excludes(file);
    flags.value("--random-range-ratio", range_ratio).in_range(0.0, 1.0).excludes(file);
    flags.value("--temperature,--temp", temperature).not_negative();
    flags.value("-s,--seed", seed);
    flags.value("--request-rate", request_rate);
    flags.flag("--warmup,!--no-warmup", warmup);
    flags.value("--max-num-seqs,--parallel", max_num_seqs).in_range(1, 4096);
    flags.alias("-np", "--max-num-seqs");
    flags.value("--max-num-batched-tokens", max_num_batched_tokens).in_range(1, 65536);
    memory.add_to(flags);
    device.add_to(flags);
    device.add_products_to(flags);
    flags.value("--read-bandwidth", read_bandwidth).positive();
    flags.value("-o,--output-format", format).one_of({"text", "json", "jsonl"});
    flags.value("--output-json", json_file);
    console.add_to(flags);
  }

  WorkloadShape shape() const;
  EngineOptions engine_options(const std::vector<WorkloadRequest>& requests) const;
};

WorkloadShape Options::shape() const {
  WorkloadShape shape = workload.empty() ? WorkloadShape{} : read_workload(workload);
  shape.num_prompts = num_prompts.value_or(shape.num_prompts);
  shape.seed = seed.value_or(shape.seed);
  shape.temperature = temperature.value_or(shape.temperature);
  if (workload.empty()) {
    shape.input = spread_length(input_len.value_or(shape.input.high), range_ratio);
    shape.output = spread_length(output_len.value_or(shape.output.high), range_ratio);
  }
  if (request_rate == "inf") return shape;
  char* end = nullptr;
  shape.request_rate = std::strtod(request_rate.c_str(), &end);
  if (request_rate.empty() || *end != '\0' || !(shape.request_rate > 0 && shape.request_rate < 1e9))
    throw UsageError(
        fmt::format("--request-rate {} is no number of requests per second, and not inf (all at once)", in_quotes(request_rate)));
  return shape;
}

EngineOptions Options::engine_options(const std::vector<WorkloadRequest>& requests) const {
  EngineOptions options;
  options.device = device.backend_request();
  memory.apply(options);
  // More sequences than requests, or than rows of a step, would only take memory.
  const auto count = static_cast<int32_t>(std::min<size_t>(requests.size(), 4096));
  options.max_num_seqs = std::min({max_num_seqs, count, max_num_batched_tokens});
  options.max_num_batched_tokens = max_num_batched_tokens;
  options.max_logprob_rows = 0;
  options.prefix_cache = false;  // the warm-up must not compute anything for the run
  for (const WorkloadRequest& request : requests)
    options.ctx_size = std::max<int64_t>(options.ctx_size, static_cast<int64_t>(request.prompt.size()) + request.output);
  return options;
}

// Known before the weights are read: the prompts are drawn from it.
int32_t vocabulary_of(const ModelOptions& model) {
  const ModelSource source = model.source();
  if (model.random()) return load_model_config(source.random_shape).vocab;
  return load_model_config(source.folder / "config.json").vocab;
}

// Refuses a run that the context would cut short.
void require_context(const Engine& engine, int64_t needed) {
  if (engine.info().ctx_size >= needed) return;
  throw Error(
      fmt::format("a request of this workload has {} tokens, prompt and output together, and the context is {}. Use shorter ones, or "
                  "another model",
                  with_commas(needed), with_commas(engine.info().ctx_size)));
}

// Opened before anything is computed, so that a path that cannot be written costs no run.
class JsonFile {
 public:
  explicit JsonFile(const std::string& path) : path_(path) {
    if (!path.empty()) file_.open(path, std::ios::binary);
    check();
  }
  void write(const Json& record) {
    if (path_.empty()) return;
    file_ << json_text(record) << "\n";
    file_.close();
    check();
  }

 private:
  void check() const {
    if (!path_.empty() && !file_)
      throw Error(fmt::format("--output-json {} cannot be written: {}", in_quotes(path_), std::strerror(errno)));
  }
  std::string path_;
  std::ofstream file_;
};

// How the requests go on, on a terminal.
std::function<void(size_t)> shown_on(const Progress& progress, const char* what, size_t all) {
  return [&progress, what, all](size_t ended) { progress.show(fmt::format("{}: {} of {} requests", what, ended, all)); };
}

ThroughputResult measure(const Options& options, const WorkloadShape& shape, const std::vector<WorkloadRequest>& requests, Engine& engine,
                         const EngineOptions& engine_options, const GracefulStop& stop, const Progress& progress) {
  const auto run = [&](const char* what, const std::vector<WorkloadRequest>& workload) {
    progress.show(what);
    return ThroughputRunner(engine, stop, shown_on(progress, what, workload.size())).run(workload, shape.temperature, shape.seed);
  };
  if (options.warmup) {
    const auto longest =
        std::max_element(requests.begin(), requests.end(), [](const auto& a, const auto& b) { return a.prompt.size() < b.prompt.size(); });
    auto warm_up = warm_up_workload(engine_options.max_num_seqs, engine_options.max_num_batched_tokens,
                                    static_cast<int32_t>(longest->prompt.size()), engine.config().vocab);
    for (WorkloadRequest& request : warm_up)
      request.output =
          static_cast<int32_t>(std::min<int64_t>(request.output, engine.info().ctx_size - static_cast<int64_t>(request.prompt.size())));
    if (run("warm-up", warm_up).interrupted) return {.interrupted = true};
  }
  const bool measured = options.read_bandwidth <= 0;
  const auto bandwidth = [&] {
    progress.show("measuring the read bandwidth");
    return measured ? engine.backend().measure_read_bandwidth() : options.read_bandwidth * 1e9;
  };
  const double before = bandwidth();
  const DeviceState state = engine.backend().state();
  ThroughputResult result = run("running", requests);
  result.before = state;
  result.after = engine.backend().state();  // at once: clocks fall when nothing runs
  result.bandwidth = {before, result.interrupted ? 0 : bandwidth(), measured};
  progress.show("");
  return result;
}

}  // namespace

ExitCode run_bench_throughput(const Arguments& arguments) {
  Options options;
  Flags flags("bench throughput", kHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  if (options.device.listed()) return ExitCode::ok;
  options.model.resolve();
  const WorkloadShape shape = options.shape();
  const int32_t vocab = vocabulary_of(options.model);
  const std::vector<WorkloadRequest> requests = make_workload(shape, vocab);
  JsonFile json_file(options.json_file);

  const GracefulStop stop;
  const Progress progress(!options.console.no_progress && !options.console.quiet);
  progress.show("loading");
  const EngineOptions engine_options = options.engine_options(requests);
  const std::unique_ptr<Engine> engine = Engine::load(options.model.source(), engine_options);
  for (const std::string& note : engine->info().notes) log_debug("{}", note);
  require_context(*engine, engine_options.ctx_size);
  BenchContext bench{options.model.name(), engine->info(), engine->config(), {}, 0, utc_now(), command_text("bench throughput", arguments)};
  bench.settings.max_num_batched_tokens = engine_options.max_num_batched_tokens;
  if (engine->info().device.id == "cpu")
    bench.threads = options.device.request.threads > 0 ? options.device.request.threads : default_threads().threads;

  const ThroughputResult result = measure(options, shape, requests, *engine, engine_options, stop, progress);
  progress.show("");
  if (result.counters.steps == 0) return stop.requested().value_or(ExitCode::ok);
  const ThroughputContext context{bench,
                                  shape,
                                  options.workload,
                                  options.warmup,
                                  engine_options.max_num_seqs,
                                  shape.request_rate > 0 ? 0 : fewest_steps(requests, engine_options.max_num_seqs)};
  const Json record = throughput_record(context, result);
  ResultStream out;
  out.write(options.format == "text" ? throughput_text(context, result) : json_text(record) + "\n");
  out.finish();
  json_file.write(record);
  return stop.requested().value_or(ExitCode::ok);
}

}  // namespace bolide
