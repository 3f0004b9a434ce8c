// bolide perplexity: how well a model predicts a text.
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "cli/clock.h"
#include "cli/command.h"
#include "cli/common_options.h"
#include "cli/json.h"
#include "cli/log.h"
#include "cli/perplexity_windows.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "cli/streams.h"
#include "core/human.h"
#include "text/utf8.h"

namespace bolide {
namespace {

constexpr std::string_view kHelp = R"(Usage: bolide perplexity -m DIR|NAME -f FILE [FLAGS]
Rates a text by a model: the exponential of the mean negative log-probability of its tokens.

Model     -m, --model DIR|NAME    folder, or Org/Name[@REV] in the Hugging Face cache
                                  (left out: the quickstart's model); --revision REV  --offline
Text      -f, --file FILE         bytes as they are; '-' = standard input, as when none is given
          --add-special, --no-add-special   with BOS and the like as the tokenizer says, or not
Windows   -c, --ctx-size N        tokens of a window; default 0: the model's, cut to what fits
          --stride N              from one window's begin to the next one's (default 512)
Device    --device auto|cpu|cuda|cuda:N   --list-devices   -t, --threads N
          --cpu-products float32|bfloat16   bfloat16 rounds activations, for AVX-512 BF16
          --kv-cache-dtype auto|float32|float16|bfloat16|fp8   --kv-cache-memory SIZE (2G)
          --gpu-memory-utilization F      what may be taken of a GPU's memory (default 0.9)
          --max-num-batched-tokens N      rows of a step (512; on a GPU 2,048)
Output    --output-format text|json
Console   -q  -v  --log-level L  --log-file F  --color auto|always|never, --no-color  --no-progress
          --show-config  --list-flags  --version  -h, --help

What counts
  Every token but the first is rated once, with at least (window - stride) tokens of context where
  the text has them. With a stride as long as the window, the first token of each window is not
  rated. transformers documents a recipe with these windows that counts each of them for one token
  less than it rates; the number it gives is printed beside.

Example
  bolide perplexity -m models/SmolLM2-135M -f book.txt --ctx-size 2048 --stride 512
)";

constexpr int kSchemaVersion = 1;    // JSON keys are a contract: additions only, a change of meaning raises the number
constexpr int32_t kLogitRows = 256;  // of a step: logits take rows * vocabulary * 4 bytes

struct Options {
  ModelOptions model;
  DeviceOptions device;
  MemoryOptions memory;
  ConsoleOptions console;
  std::string file, format = "text";
  bool add_special = true;
  int64_t ctx_size = 0, stride = 512;
  int32_t max_num_batched_tokens = 0;

  void add_to(Flags& flags) {
    model.add_folder_to(flags);
    flags.not_from_environment(flags.value("-f,--file,--prompt-file", file));
    flags.flag("--add-special,!--no-add-special", add_special);
    flags.value("-c,--ctx-size,--max-model-len,--max-seq-len", ctx_size).not_negative();
    flags.value("--stride", stride).positive();
    flags.value("--output-format", format).one_of({"text", "json"});
    device.add_to(flags);
    device.add_products_to(flags);
    memory.add_to(flags);
    flags.value("--max-num-batched-tokens", max_num_batched_tokens).in_range(0, 1 << 20);
    console.add_to(flags);
  }

  EngineOptions engine_options() const {
    EngineOptions out;
    out.device = device.backend_request();
    out.ctx_size = ctx_size;
    out.max_num_batched_tokens = max_num_batched_tokens;
    out.max_logprob_rows = std::min(kLogitRows, least_step_tokens(max_num_batched_tokens));
    out.prefix_cache = false;  // windows begin at different places: they share nothing
    memory.apply(out);
    return out;
  }
};

std::string read_text(const Options& options) {
  if (options.file.empty() && isatty(STDIN_FILENO)) throw UsageError("no text: give one with --file FILE, or on standard input");
  std::string text = read_input(options.file.empty() ? "-" : options.file);
  if (const auto offset = first_invalid_utf8(text)) {
    throw Error(fmt::format("the text is not valid UTF-8: byte {} of {} (0x{:02x}). Convert it, for example with: iconv -t UTF-8", *offset,
                            text.size(), static_cast<unsigned char>(text[*offset])));
  }
  return text;
}

// The log-probabilities of one window.
class WindowSink final : public OutputSink {
 public:
  void on_prompt_logprobs(SequenceId, std::span<const float> values) override { logprobs.assign(values.begin(), values.end()); }
  void on_token(const TokenEvent&) override {}
  void on_finish(const FinishEvent&) override {}
  std::vector<float> logprobs;
};

struct Rating {
  PerplexitySum sum;
  size_t windows = 0;      // that were rated
  int64_t tokens_run = 0;  // through the model, context included
  double seconds = 0;
  std::optional<ExitCode> stopped;
};

void require_finite(const PerplexityWindow& window, std::span<const float> logprobs) {
  for (size_t i = logprobs.size() - static_cast<size_t>(window.rated()); i < logprobs.size(); ++i) {
    if (std::isfinite(logprobs[i])) continue;
    throw Error(
        fmt::format("token {} of the text has the log-probability {}: the model's logits are not finite there. Its weights may be damaged",
                    window.begin + static_cast<int64_t>(i) + 1, logprobs[i]));
  }
}

Rating rate(Engine& engine, const std::vector<int32_t>& ids, const std::vector<PerplexityWindow>& windows, const GracefulStop& stop,
            bool show_progress) {
  Rating out;
  SamplingParams params;
  params.temperature = 0;
  params.max_tokens = 0;
  params.prompt_logprobs = true;
  const Progress progress(show_progress);
  const auto begin = Clock::now();
  for (const PerplexityWindow& window : windows) {
    WindowSink sink;
    const SequenceId id = engine.add({ids.begin() + window.begin, ids.begin() + window.end}, params, sink);
    while (engine.step()) {
      if (stop.requested()) engine.cancel(id);
    }
    out.stopped = stop.requested();
    if (out.stopped) break;
    require_finite(window, sink.logprobs);
    out.sum.add(window, sink.logprobs);
    ++out.windows;
    out.tokens_run += window.end - window.begin;
    out.seconds = seconds_between(begin, Clock::now());
    progress.show(fmt::format("window {} of {} | perplexity so far {:.4f} | {} tok/s", out.windows, windows.size(), out.sum.perplexity(),
                              with_commas(std::llround(static_cast<double>(out.tokens_run) / out.seconds))));
  }
  return out;
}

struct Report {
  const Options& options;
  const Engine& engine;
  const Rating& rating;
  int64_t tokens, bytes, window, stride;
};

std::string json_report(const Report& r) {
  const EngineInfo& info = r.engine.info();
  const PerplexitySum& sum = r.rating.sum;
  const double bits = sum.nll() * static_cast<double>(sum.tokens()) / std::log(2.0);
  return json_text({{"schema_version", kSchemaVersion},
                    {"model", r.options.model.name()},
                    {"architecture", r.engine.config().architecture},
                    {"device", {{"id", info.device.id}, {"name", info.device.name}, {"reason", info.device_reason}}},
                    {"weights_dtype", dtype_name(info.weights_dtype)},
                    {"kv_cache_dtype", dtype_name(info.kv_dtype)},
                    {"ctx_size", r.window},
                    {"stride", r.stride},
                    {"windows", r.rating.windows},
                    {"text_bytes", r.bytes},
                    {"text_tokens", r.tokens},
                    {"rated_tokens", sum.tokens()},
                    {"nll", sum.nll()},
                    {"perplexity", sum.perplexity()},
                    {"bits_per_byte", bits / static_cast<double>(r.bytes)},
                    {"transformers_recipe",
                     {{"tokens", sum.recipe_tokens()}, {"nll", sum.recipe_nll()}, {"perplexity", sum.recipe_perplexity()}}},
                    {"timing",
                     {{"load_seconds", info.load_seconds},
                      {"run_seconds", r.rating.seconds},
                      {"tokens_per_second", static_cast<double>(r.rating.tokens_run) / r.rating.seconds}}}}) +
         "\n";
}

std::string text_report(const Report& r) {
  const PerplexitySum& sum = r.rating.sum;
  return fmt::format("perplexity {:.4f} over {} tokens, {} windows of {}, stride {}\ntransformers' recipe: {:.4f}\n", sum.perplexity(),
                     with_commas(sum.tokens()), with_commas(static_cast<int64_t>(r.rating.windows)), with_commas(r.window),
                     with_commas(r.stride), sum.recipe_perplexity());
}

ExitCode perplexity(const Options& options) {
  const std::string text = read_text(options);
  const std::unique_ptr<Engine> engine = Engine::load(options.model.source(), options.engine_options());
  const EngineInfo& info = engine->info();
  for (const std::string& note : info.notes) log_info("{}", note);
  if (!engine->tokenizer())
    throw UsageError(
        "the model has no tokenizer (tokenizer.json or tokenizer.model), so a text cannot be read. Use a folder with a tokenizer");
  const std::vector<int32_t> ids = engine->tokenizer()->encode(text, {.add_special = options.add_special});
  const auto tokens = static_cast<int64_t>(ids.size());
  if (tokens < 2) throw Error(fmt::format("the text has {} tokens, and at least 2 are needed to rate one by another", tokens));
  const int64_t window = info.ctx_size;
  if (window < 2) throw UsageError(fmt::format("--ctx-size {}: a window of one token has nothing to rate. Give it at least 2", window));
  if (options.stride > window) {
    throw UsageError(fmt::format("--stride {} is longer than the windows of {} tokens: what lies between them would not be rated",
                                 options.stride, window));
  }
  const std::vector<PerplexityWindow> windows = perplexity_windows(tokens, window, options.stride);
  const GracefulStop stop;
  log_info("{} tokens, {} windows of {} tokens, stride {}", with_commas(tokens), with_commas(static_cast<int64_t>(windows.size())),
           with_commas(window), with_commas(options.stride));
  const Rating rating = rate(*engine, ids, windows, stop, !options.console.no_progress && !options.console.quiet);
  if (rating.stopped) {
    log_info("interrupted after {} of {} windows{}", rating.windows, windows.size(),
             rating.windows > 0 ? fmt::format(", perplexity so far {:.4f}", rating.sum.perplexity()) : "");
    return *rating.stopped;
  }
  const Report report{options, *engine, rating, tokens, static_cast<int64_t>(text.size()), window, options.stride};
  ResultStream out;
  out.write(options.format == "json" ? json_report(report) : text_report(report));
  out.finish();
  log_info("{:.1f} s, {:.1f} tok/s through the model | {} | weights {}, KV cache {}", rating.seconds,
           static_cast<double>(rating.tokens_run) / rating.seconds, info.device_reason, dtype_name(info.weights_dtype),
           dtype_name(info.kv_dtype));
  return ExitCode::ok;
}

}  // namespace

ExitCode run_perplexity(const Arguments& arguments) {
  Options options;
  Flags flags("perplexity", kHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  if (options.device.listed()) return ExitCode::ok;
  options.model.resolve();
  return perplexity(options);
}

}  // namespace bolide
