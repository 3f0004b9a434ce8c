// bolide bench: prefill and decode speed.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/bench_report.h"
#include "cli/bench_run.h"
#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/streams.h"
#include "cli/values.h"
#include "core/thread_pool.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide bench -m DIR [FLAGS]
Times prefill (pp) and decode (tg) apart, one sequence at a time.

Model     -m, --model DIR             checkpoint folder
          --random-weights SHAPE      instead: a config.json with random weights; --random-dtype T, --random-seed N
Tests     -p, --n-prompt N,...        tokens prefilled (default 512; 0: no such test)
          -n, --n-gen N,...           tokens decoded (default 128; 0: no such test)
          -d, --n-depth N,...         tokens in the cache before (default 0)
          Lists may hold ranges: 0-4096+1024, 1-64*2. Each test runs for each depth and number of threads.
          -r, --repetitions N         (default 5)    --warmup, --no-warmup   an untimed run before each test (default: yes)
          -s, --seed N                of the prompts: random tokens, others in each repetition (default 0)
Device    --device auto|cpu|cuda|cuda:N    --list-devices    -t, --threads N,...
          --kv-cache-dtype auto|float32|float16|bfloat16    --max-num-batched-tokens N (rows of a prefill step, default 512)
          --read-bandwidth GB/S       of the device if known; default: measured before the tests, with the same threads
Output    -o, --output-format md|csv|json|jsonl
Console   -q  -v  --log-level L  --log-file F  --color C, --no-color  --no-progress  --show-config  --list-flags  -h, --help

What the figures are
  pp rate    prompt tokens / time from the end of the depth's tokens to the first output token
  tg rate    n-gen / time from the first output token to the last, n-gen tokens later; greedy, end-of-text ignored
  t/s        mean ± standard deviation over the repetitions, then median, least and most
  GB/s       (weight bytes + K and V bytes read per token) x median tg rate / 1e9
  of read bw GB/s / read bandwidth of the device
Loading and tokenising are not timed; nothing is cached between repetitions.

Example
  bolide bench --random-weights configs/models/qwen3-0.6b.json -p 512 -n 128 -d 0,4096
)";

struct Options {
  ModelOptions model;
  DeviceOptions device;
  ConsoleOptions console;
  std::string prompts = "512", generates = "128", depths = "0", threads = "0", kv_cache_dtype = "auto", format = "md";
  double read_bandwidth = 0;  // GB/s; 0 = measure
  BenchSettings settings;

  void add_to(Flags& flags) {
    model.add_to(flags);
    flags.value("-p,--n-prompt", prompts);
    flags.value("-n,--n-gen", generates);
    flags.value("-d,--n-depth", depths);
    flags.value("-r,--repetitions", settings.repetitions)->check(CLI::Range(1, 100000));
    flags.flag("--warmup,!--no-warmup", settings.warmup);
    flags.value("-s,--seed", settings.seed);
    flags.value("--device", device.request.device);
    flags.alias("-dev", "--device");
    flags.value("-t,--threads", threads);
    flags.not_from_environment(flags.flag("--list-devices", device.list));
    flags.value("--kv-cache-dtype", kv_cache_dtype);
    flags.alias("-ctk", "--kv-cache-dtype");
    flags.alias("-ctv", "--kv-cache-dtype");
    flags.value("--max-num-batched-tokens", settings.max_num_batched_tokens)->check(CLI::Range(1, 1 << 20));
    flags.value("--read-bandwidth", read_bandwidth)->check(CLI::PositiveNumber);
    flags.value("-o,--output-format", format)->check(CLI::IsMember({"md", "csv", "json", "jsonl"}));
    console.add_to(flags);
  }
};

std::vector<BenchCase> cases_of(const Options& options) {
  std::vector<BenchCase> cases;
  for (const int32_t depth : parse_counts("--n-depth", options.depths, 0)) {
    for (const int32_t prompt : parse_counts("--n-prompt", options.prompts, 0)) {
      if (prompt > 0) cases.push_back({.prompt = prompt, .depth = depth});
    }
    for (const int32_t generate : parse_counts("--n-gen", options.generates, 0)) {
      if (generate > 0) cases.push_back({.generate = generate, .depth = depth});
    }
  }
  if (cases.empty()) throw UsageError("nothing to measure: --n-prompt and --n-gen are both 0");
  return cases;
}

// One line on a terminal that the next one replaces; nothing where colours would be out of place too.
class Progress {
 public:
  explicit Progress(bool wanted) : shown_(wanted && use_color("auto", STDERR_FILENO)) {}
  ~Progress() { show(""); }
  void show(const std::string& text) const {
    if (shown_) std::fputs(("\r\x1b[K" + text).c_str(), stderr);
  }

 private:
  bool shown_;
};

// Nothing when a signal came before the first sample.
BenchResult run_case(BenchRunner& runner, const BenchCase& test, const BenchSettings& settings, const Progress& progress) {
  BenchResult result{test, {}};
  if (settings.warmup) {
    progress.show(fmt::format("{}: warm-up", test.label()));
    BenchCase warm = test;
    warm.generate = std::min(warm.generate, 8);
    if (!runner.run_once(warm, settings.repetitions)) return result;
  }
  for (int32_t i = 0; i < settings.repetitions; ++i) {
    progress.show(fmt::format("{}: {} of {}", test.label(), i + 1, settings.repetitions));
    const auto sample = runner.run_once(test, i);
    if (!sample) break;
    result.samples.push_back(*sample);
  }
  return result;
}

struct Session {
  const Options& options;
  const std::vector<BenchCase>& cases;
  BenchReport& report;
  ResultStream& out;
  const GracefulStop& stop;
};

// All cases with one number of threads (0: the device's default).
void run_cases(const Session& session, int32_t threads) {
  const Options& options = session.options;
  EngineOptions engine_options;
  engine_options.device = options.device.request;
  engine_options.device.threads = threads;
  engine_options.kv_dtype = parse_dtype_flag("--kv-cache-dtype", options.kv_cache_dtype);
  engine_options.max_num_batched_tokens = options.settings.max_num_batched_tokens;
  engine_options.max_logprob_rows = 0;
  for (const BenchCase& test : session.cases) engine_options.ctx_size = std::max(engine_options.ctx_size, test.context());

  const Progress progress(!options.console.no_progress && !options.console.quiet);
  double bandwidth = options.read_bandwidth * 1e9;
  if (bandwidth <= 0 && std::any_of(session.cases.begin(), session.cases.end(), [](const BenchCase& test) { return test.is_decode(); })) {
    progress.show("measuring the read bandwidth");
    bandwidth = choose_backend(engine_options.device).backend->measure_read_bandwidth();
  }
  progress.show("loading");
  const std::unique_ptr<Engine> engine = Engine::load(options.model.source(), engine_options);
  for (const std::string& note : engine->info().notes) spdlog::debug("{}", note);
  BenchContext context{
      options.model.name(), engine->info(), engine->config(), options.settings, 0, bandwidth, options.read_bandwidth <= 0, ""};
  if (engine->info().device.id == "cpu") context.threads = threads > 0 ? threads : default_threads().threads;

  BenchRunner runner(*engine, options.settings, session.stop);
  for (const BenchCase& test : session.cases) {
    if (session.stop.requested() || session.out.failed()) return;
    context.started = utc_now();
    const BenchResult result = run_case(runner, test, options.settings, progress);
    progress.show("");
    if (!result.samples.empty()) session.out.write(session.report.row(context, result));
    session.out.flush();
  }
}

}  // namespace

ExitCode run_bench(const Arguments& arguments) {
  Options options;
  Flags flags("bench", kHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  if (options.device.listed()) return ExitCode::ok;
  options.model.source();
  const std::vector<BenchCase> cases = cases_of(options);
  const std::vector<int32_t> thread_counts = parse_counts("--threads", options.threads, 0);

  ResultStream out;
  BenchReport report(options.format);
  const GracefulStop stop;
  for (const int32_t threads : thread_counts) {
    if (!stop.requested() && !out.failed()) run_cases({options, cases, report, out, stop}, threads);
  }
  out.write(report.end());
  out.finish();
  return stop.requested().value_or(ExitCode::ok);
}

}  // namespace bolide
