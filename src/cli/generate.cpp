// bolide generate: one prompt, one or several continuations.
#include <unistd.h>

#include "cli/clock.h"
#include "cli/collector.h"
#include "cli/command.h"
#include "cli/dry_run.h"
#include "cli/generate_options.h"
#include "cli/generate_report.h"
#include "cli/json.h"
#include "cli/load_engine.h"
#include "cli/log.h"
#include "cli/prompt_input.h"
#include "cli/signals.h"
#include "cli/streams.h"

namespace bolide {
namespace {

void show_prompt(const Prompt& prompt, const Tokenizer* tokenizer) {
  const std::string text = prompt.text ? *prompt.text : tokenizer ? tokenizer->decode(prompt.ids, false) : "";
  if (prompt.text || tokenizer) log_info("prompt text: {}", json_text(Json(text)));
  log_info("prompt ids ({}): {}", prompt.ids.size(), fmt::join(prompt.ids, ","));
}

// Runs the sequences to their end, or to the step after a signal or after standard output was closed.
std::optional<ExitCode> run_sequences(Engine& engine, const std::vector<SequenceId>& ids, const ResultStream& out) {
  const GracefulStop stop;
  bool cancelled = false;
  while (engine.step()) {
    if (cancelled || !(stop.requested() || out.failed())) continue;
    for (const SequenceId id : ids) engine.cancel(id);
    cancelled = true;
  }
  return stop.requested();
}

ExitCode generate(const GenerateOptions& options) {
  const bool text_output = options.output_format == "text";
  const std::optional<ChatTemplate> chat = options.chat_template();
  Prompt prompt = read_prompt(options);
  const auto before_load = Clock::now();
  const std::unique_ptr<Engine> engine = load_engine(options, options.engine_options());
  const double load_seconds = seconds_between(before_load, Clock::now());
  const Tokenizer* tokenizer = engine->tokenizer();
  if (text_output && !tokenizer)
    throw UsageError(
        "the model has no tokenizer (tokenizer.json or tokenizer.model), so there is no text to print. Use --output-format "
        "json, or a folder with a tokenizer");
  encode_prompt(prompt, options, tokenizer, chat);
  truncate_prompt(prompt, options, tokenizer, engine->info().ctx_size);
  if (options.print_prompt) show_prompt(prompt, tokenizer);

  const GenerationDefaults& defaults = engine->generation_defaults();
  SamplingParams params = options.sampling(defaults);
  if (chat) warn_of_endless_thinking(*engine, *chat, options.chat.kwargs(), params);
  if (const std::string decided = options.decided_by(defaults); !decided.empty())
    log_info("from generation_config.json: {} (flags win; --generation-config none ignores it)", decided);

  ResultStream out;
  Collector collector(static_cast<size_t>(options.sequences), params.logprobs >= 0, text_output ? &out : nullptr);
  if (options.hide_thinking) collector.hide_thinking(prompt.text && ends_in_thinking(*prompt.text));
  std::vector<SequenceId> ids;
  for (int32_t i = 0; i < options.sequences; ++i) {
    params.sequence_key = static_cast<uint64_t>(i);
    ids.push_back(engine->add(prompt.ids, params, collector));
  }
  collector.bind(ids);
  if (text_output && options.echo) {
    out.write(prompt.text ? *prompt.text : tokenizer->decode(prompt.ids, false));
    out.flush();
  }
  const std::optional<ExitCode> stopped = run_sequences(*engine, ids, out);

  const auto first = collector.first_token();
  const GenerateRun run{options,
                        params,
                        prompt,
                        *engine,
                        collector.results(),
                        seconds_between(program_start(), before_load),
                        load_seconds,
                        first ? seconds_between(program_start(), *first) : 0,
                        seconds_between(program_start(), Clock::now())};
  if (!text_output)
    out.write(json_report(run));
  else if (isatty(STDOUT_FILENO) && options.sequences == 1)
    out.write("\n");
  out.finish();
  if (out.reader_gone()) return ExitCode::ok;
  for (const std::string& line : statistics(run)) log_info("{}", line);
  if (first) log_debug("{}", load_split(run));
  return stopped.value_or(ExitCode::ok);
}

}  // namespace

ExitCode run_generate(const Arguments& arguments) {
  GenerateOptions options;
  Flags flags("generate", kGenerateHelp);
  options.add_to(flags);
  flags.decided_elsewhere([&options] {
    options.console.start();
    return options.decided_by_model();
  });
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.console.start();
  if (options.device.listed()) return ExitCode::ok;
  options.check();
  options.model.resolve();
  if (options.dry_run) return dry_run(options);
  return generate(options);
}

}  // namespace bolide
