// bolide bench: prefill and decode speed.
#include <algorithm>
#include <chrono>
#include <thread>

#include "cli/bench_report.h"
#include "cli/bench_run.h"
#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/log.h"
#include "cli/progress.h"
#include "cli/streams.h"
#include "cli/values.h"
#include "core/messages.h"
#include "core/thread_pool.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide bench -m DIR [FLAGS]
       bolide bench throughput ...    many requests at once, or as they arrive (--help)
       bolide bench ops [FLAGS]       fused ops against the plain way on a GPU (--help)
Times prefill (pp) and decode (tg) apart.

Model     -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                  (left out: the quickstart's model); --revision REV  --offline
          --random-weights SHAPE  instead: a config.json with random weights;
                                  --random-dtype T, --random-seed N
Tests     -p, --n-prompt N,...    tokens prefilled (default 512; 0: no such test)
          -n, --n-gen N,...       tokens decoded (default 128; 0: no such test)
          -pg, --n-prompt-gen P,N   P tokens prefilled and N decoded in one go (repeat for more)
          -d, --n-depth N,...     tokens in the cache before (default 0)
          -b, --batch-size N,...  sequences decoded side by side in the tg tests (default 1)
          Lists may hold ranges: 0-4096+1024, 1-64*2. Each test runs for each depth and --threads.
          -r, --repetitions N     (default 5)   --warmup, --no-warmup   untimed runs before a test
          --delay N               seconds to cool off before each test (default 0)
          -s, --seed N            of the prompts: random, others in each repetition (default 0)
Device    --device auto|cpu|cuda|cuda:N    --list-devices    -t, --threads N,...
          --cpu-products float32|bfloat16   bfloat16 rounds activations, for AVX-512 BF16
          --kv-cache-dtype auto|float32|float16|bfloat16|fp8   --kv-cache-memory SIZE (2G)
          --gpu-memory-utilization F      what may be taken of a GPU's memory (default 0.9)
          --max-num-batched-tokens N      rows of a prefill step (512; on a GPU 2,048)
          --read-bandwidth GB/S   of the device if known; default: measured around each test
Output    -o, --output-format md|csv|json|jsonl
Console   -q  -v  --log-level L  --log-file F  --color auto|always|never, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

What the figures are
  pp rate    prompt tokens / time from the end of the depth's tokens to the first output token
  pp+tg rate P + N tokens / time from the end of the depth's tokens to the last output token
  tg rate    n-gen / time from the first output token to the last, n-gen tokens later; greedy,
             end-of-text ignored. Of several sequences, tokens of all / time from the first token
             of the last one to start; the others have grown by then
  TTFT       median time from a request to its first token (depth and prompt together)
  t/s        mean ± standard deviation over the repetitions, then median, least and most
  GB/s       (weight bytes + K and V bytes read per token) x median tg rate / 1e9
  read bw    of the device in GB/s, measured before and after each repetition of a tg test: median
             (least to most)
  of read bw of a repetition: its GB/s / the mean of the two measurements around it. The median of
             those repetitions around which the two agree within 10 %, with their number where not
             all do; * where fewer than half do (where none does: the median of all)
Loading and tokenising are not timed; nothing is cached between repetitions.

Example
  bolide bench --random-weights configs/models/qwen3-0.6b.json -p 512 -n 128 -d 0,4096
)";

struct Options {
  ModelOptions model;
  DeviceOptions device;
  ConsoleOptions console;
  std::string prompts = "512", generates = "128", depths = "0", threads = "0", batches = "1", format = "md";
  std::vector<std::string> prompt_generates;
  MemoryOptions memory;
  double read_bandwidth = 0;  // GB/s; 0 = measure
  int32_t delay = 0;          // seconds before each test
  BenchSettings settings;

  void add_to(Flags& flags) {
    model.add_to(flags);
    flags.value("-p,--n-prompt", prompts);
    flags.value("-n,--n-gen", generates);
    flags.list("--n-prompt-gen", prompt_generates);
    flags.alias("-pg", "--n-prompt-gen");
    flags.value("-d,--n-depth", depths);
    flags.value("-b,--batch-size", batches);
    flags.value("-r,--repetitions", settings.repetitions).in_range(1, 100000);
    flags.flag("--warmup,!--no-warmup", settings.warmup);
    flags.value("--delay", delay).in_range(0, 86400);
    flags.value("-s,--seed", settings.seed);
    flags.value("--device", device.request.device);
    flags.alias("-dev", "--device");
    flags.value("-t,--threads", threads);
    flags.not_from_environment(flags.flag("--list-devices", device.list));
    device.add_products_to(flags);
    memory.add_to(flags);
    flags.value("--max-num-batched-tokens", settings.max_num_batched_tokens).in_range(0, 1 << 20);
    flags.value("--read-bandwidth", read_bandwidth).positive();
    flags.value("-o,--output-format", format).one_of({"md", "csv", "json", "jsonl"});
    console.add_to(flags);
  }
};

// "512,128"
BenchCase parse_prompt_gen(const std::string& text, int32_t depth) {
  const size_t comma = std::min(text.find(','), text.size());
  const auto number = [&](const std::string& part) {
    if (!part.empty() && part.find_first_not_of("0123456789") == std::string::npos) return parse_counts("--n-prompt-gen", part, 1).front();
    throw UsageError(fmt::format("--n-prompt-gen {} is not P,N: tokens of the prompt, a comma, tokens decoded", in_quotes(text)));
  };
  const std::string generate = text.substr(std::min(comma + 1, text.size()));
  return {.prompt = number(text.substr(0, comma)), .generate = number(generate), .depth = depth};
}

std::vector<BenchCase> cases_of(const Options& options) {
  std::vector<BenchCase> cases;
  const std::vector<int32_t> batches = parse_counts("--batch-size", options.batches, 1);
  for (const int32_t depth : parse_counts("--n-depth", options.depths, 0)) {
    for (const int32_t prompt : parse_counts("--n-prompt", options.prompts, 0)) {
      if (prompt > 0) cases.push_back({.prompt = prompt, .depth = depth});
    }
    for (const int32_t generate : parse_counts("--n-gen", options.generates, 0)) {
      for (const int32_t batch : batches) {
        if (generate > 0) cases.push_back({.generate = generate, .depth = depth, .batch = batch});
      }
    }
    for (const std::string& text : options.prompt_generates) cases.push_back(parse_prompt_gen(text, depth));
  }
  if (cases.empty()) throw UsageError("nothing to measure: --n-prompt and --n-gen are both 0");
  constexpr int32_t kMostSequences = 4096;
  for (const int32_t batch : batches) {
    if (batch > kMostSequences) throw UsageError(fmt::format("--batch-size {} is more than {}", batch, kMostSequences));
    if (const int32_t rows = options.settings.max_num_batched_tokens; rows > 0 && batch > rows) {
      throw UsageError(
          fmt::format("--batch-size {} is more than --max-num-batched-tokens {}: every sequence takes a row of a step", batch, rows));
    }
  }
  return cases;
}

// False when a signal came.
bool warm_up(BenchRunner& runner, const BenchCase& test, const BenchSettings& settings, const Progress& progress) {
  progress.show(fmt::format("{}: warm-up", test.label()));
  BenchCase warm = test;
  warm.generate = std::min(warm.generate, 8);
  for (int32_t i = 0; i < runner.untimed_runs(); ++i) {
    if (!runner.run_once(warm, settings.repetitions + i)) return false;
  }
  return true;
}

// No samples when a signal came before the first one. The read bandwidth is measured around the test, of one that decodes around each
// repetition, neighbours sharing a measurement.
BenchResult run_case(BenchRunner& runner, Backend& backend, ReadMeter& meter, const BenchCase& test, const BenchSettings& settings,
                     const Progress& progress) {
  if (meter.measures()) progress.show(fmt::format("{}: measuring the read bandwidth", test.label()));
  BenchResult result{test, {}, {meter.now(), 0, meter.measures()}, backend.state(), {}};
  if (settings.warmup && !warm_up(runner, test, settings, progress)) return result;
  if (test.is_decode()) result.bandwidth.before = meter.now();
  for (int32_t i = 0; i < settings.repetitions; ++i) {
    progress.show(fmt::format("{}: {} of {}", test.label(), i + 1, settings.repetitions));
    auto sample = runner.run_once(test, i, &meter);
    const bool last = !sample || i + 1 == settings.repetitions;
    if (last) result.after = backend.state();  // at once: clocks fall when nothing runs
    if (test.is_decode() || last) result.bandwidth.after = meter.now();
    if (!sample) break;
    sample->bandwidth.after = result.bandwidth.after;
    result.samples.push_back(*sample);
  }
  return result;
}

// Ends at once with a signal.
void cool_off(int32_t seconds, const BenchCase& test, const Progress& progress, const GracefulStop& stop) {
  constexpr auto kPiece = std::chrono::milliseconds(100);
  for (auto left = std::chrono::milliseconds(std::chrono::seconds(seconds)); left.count() > 0 && !stop.requested(); left -= kPiece) {
    progress.show(fmt::format("{}: waits {} s", test.label(), (left.count() + 999) / 1000));
    std::this_thread::sleep_for(kPiece);
  }
}

struct Session {
  const Options& options;
  const Arguments& arguments;
  const std::vector<BenchCase>& cases;
  BenchReport& report;
  ResultStream& out;
  const GracefulStop& stop;
};

// All cases with one number of threads (0: the device's default).
void run_cases(const Session& session, int32_t threads) {
  const Options& options = session.options;
  EngineOptions engine_options;
  engine_options.device = options.device.backend_request();
  engine_options.device.threads = threads;
  options.memory.apply(engine_options);
  engine_options.max_num_batched_tokens = options.settings.max_num_batched_tokens;
  engine_options.max_logprob_rows = 0;
  engine_options.prefix_cache = false;  // repetitions must not find what an earlier one computed
  // The fewer rows, the more room.
  const int32_t rows = least_step_tokens(options.settings.max_num_batched_tokens);
  for (const BenchCase& test : session.cases) {
    engine_options.ctx_size = std::max(engine_options.ctx_size, test.context(std::max(rows, test.batch)));
    engine_options.max_num_seqs = std::max(engine_options.max_num_seqs, test.batch);
  }

  const Progress progress(!options.console.no_progress && !options.console.quiet);
  progress.show("loading");
  const std::unique_ptr<Engine> engine = Engine::load(options.model.source(), engine_options);
  for (const std::string& note : engine->info().notes) log_debug("{}", note);
  BenchSettings settings = options.settings;
  settings.max_num_batched_tokens = engine->info().max_num_batched_tokens;
  BenchContext context{options.model.name(), engine->info(), engine->config(), settings, 0, "", command_text("bench", session.arguments)};
  if (engine->info().device.id == "cpu") context.threads = threads > 0 ? threads : default_threads().threads;

  // The bandwidth stands beside decode, which is bound by it; where nothing is decoded it is not measured.
  const bool decodes = std::any_of(session.cases.begin(), session.cases.end(), [](const BenchCase& test) { return test.is_decode(); });
  ReadMeter meter(engine->backend(), options.read_bandwidth * 1e9, decodes);
  BenchRunner runner(*engine, settings, session.stop);
  for (const BenchCase& test : session.cases) {
    if (session.stop.requested() || session.out.failed()) return;
    if (options.delay > 0) {
      cool_off(options.delay, test, progress, session.stop);
      if (session.stop.requested()) return;
    }
    context.started = utc_now();
    const BenchResult result = run_case(runner, engine->backend(), meter, test, settings, progress);
    progress.show("");
    if (!result.samples.empty()) session.out.write(session.report.row(context, result));
    session.out.flush();
  }
}

}  // namespace

ExitCode run_bench(const Arguments& arguments) {
  if (!arguments.empty() && arguments.front() == "throughput") return run_bench_throughput({arguments.begin() + 1, arguments.end()});
  if (!arguments.empty() && arguments.front() == "ops") return run_bench_ops({arguments.begin() + 1, arguments.end()});
  Options options;
  Flags flags("bench", kHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  if (options.device.listed()) return ExitCode::ok;
  options.model.resolve();
  const std::vector<BenchCase> cases = cases_of(options);
  const std::vector<int32_t> thread_counts = parse_counts("--threads", options.threads, 0);

  ResultStream out;
  BenchReport report(options.format);
  const GracefulStop stop;
  for (const int32_t threads : thread_counts) {
    if (!stop.requested() && !out.failed()) run_cases({options, arguments, cases, report, out, stop}, threads);
  }
  out.write(report.end());
  out.finish();
  return stop.requested().value_or(ExitCode::ok);
}

}  // namespace bolide
