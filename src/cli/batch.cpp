// bolide batch: a file of requests in, a file of records out.
#include <fmt/ranges.h>

#include <algorithm>

#include "cli/batch_run.h"
#include "cli/command.h"
#include "cli/folder_digest.h"
#include "cli/log.h"
#include "core/human.h"
#include "core/messages.h"

namespace bolide {
namespace {

void check_files(const BatchOptions& options) {
  const auto differ = [](const std::string& flag, const std::string& path, const std::string& other_flag, const std::string& other) {
    if (path.empty() || path == "-" || !same_file(path, other)) return;
    throw UsageError(
        fmt::format("{} {} and {} {} are the same file. Name another one", flag, in_quotes(path), other_flag, in_quotes(other)));
  };
  differ("--output-file", options.output, "--input-file", options.input);
  differ("--error-file", options.error_file, "--input-file", options.input);
  differ("--error-file", options.error_file, "--output-file", options.output);
}

void check_untouched(const BatchOptions& options, const BatchOutput& file, const std::string& path) {
  if (options.resume || options.overwrite || file.size() == 0) return;
  throw UsageError(fmt::format("{} holds {} already. --resume goes on where it ends, --overwrite replaces it", in_quotes(path),
                               human_bytes(static_cast<size_t>(file.size()))));
}

std::string quoted_list(const std::set<std::string>& names) {
  std::vector<std::string> quoted;
  for (const std::string& name : names) quoted.push_back(in_quotes(name));
  return fmt::format("{}", fmt::join(quoted, ", "));
}

void report_scan(const BatchOptions& options, const InputScan& scan, LineFormat format, const RequestReader& reader) {
  const std::string where = in_quotes(options.input);
  log_info("{}: {} {}, {} bad", where, with_commas(scan.requests), format == LineFormat::text ? "prompts, one a line" : "JSON lines",
           with_commas(scan.bad));
  for (const BadLine& bad : scan.bad_lines) log_warning("{}", one_line(fmt::format("{} line {}: {}", where, bad.line, bad.reason)));
  const auto listed = static_cast<int64_t>(scan.bad_lines.size());
  if (scan.bad > listed) log_warning("{} and {} further bad lines", where, with_commas(scan.bad - listed));
  for (const RepeatedId& repeated : scan.repeated_ids)
    log_warning("{} line {}: custom_id {} is that of line {}", where, repeated.line, in_quotes(repeated.custom_id, 80),
                repeated.first_line);
  const auto named = static_cast<int64_t>(scan.repeated_ids.size());
  if (scan.repeated > named) log_warning("{} and {} further repeated custom_ids", where, with_commas(scan.repeated - named));
  if (!scan.repeats_complete) log_warning("{}: too many custom_ids repeat to name them all", where);
  if (!reader.unknown_fields().empty())
    log_warning("fields that nobody knows are ignored: {} (--strict makes them errors)", quoted_list(reader.unknown_fields()));
  if (!reader.models().empty() && reader.models() != std::set{options.defaults.model.name()})
    log_warning("lines ask for the model {}; {} answers them all", quoted_list(reader.models()), in_quotes(options.defaults.model.name()));
  if (options.fail_fast && scan.bad > 0)
    throw Error(fmt::format("{} line {}: {}. --fail-fast stops here", where, scan.bad_lines.front().line, scan.bad_lines.front().reason));
}

// Refuses to mix records of different runs.
void check_same_run(const BatchOptions& options, const RunIdentity& before, const RunIdentity& now) {
  const std::string where = in_quotes(options.output);
  static constexpr const char* what_to_do = "--resume cannot go on from them; --overwrite starts again";
  if (before.input != now.input)
    throw UsageError(fmt::format("{} has changed since the records in {} were made: {}", in_quotes(options.input), where, what_to_do));
  if (before.settings != now.settings)
    throw UsageError(
        fmt::format("the records in {} were made with another model or other flags (sampling, length, context): {}", where, what_to_do));
  if (before.seed != now.seed)
    throw UsageError(fmt::format("the records in {} were made with --seed {}, not {}: {}", where, before.seed, now.seed, what_to_do));
}

std::string listed_lines(std::vector<int64_t> lines, int64_t all) {
  std::sort(lines.begin(), lines.end());
  std::vector<std::string> shown;
  for (size_t i = 0; i < std::min<size_t>(lines.size(), 10); ++i) shown.push_back(std::to_string(lines[i]));
  if (all > static_cast<int64_t>(shown.size())) shown.emplace_back("...");
  return fmt::format("{}", fmt::join(shown, ", "));
}

// "batch: 9,997 ok, 3 failed (lines 17, 204, 8861), 41.2 s, 12,310 output tok/s → out.jsonl"
std::string summary(const BatchOptions& options, const FinishedLines& before, const BatchTotals& totals) {
  const int64_t failed = before.failed + totals.failed, ok = before.count - before.failed + totals.ok;
  std::string text = fmt::format("batch: {} ok, {} failed", with_commas(ok), with_commas(failed));
  if (failed > 0) {
    std::vector<int64_t> lines = before.failed_lines;
    lines.insert(lines.end(), totals.failed_lines.begin(), totals.failed_lines.end());
    text += fmt::format(" (line{} {})", failed == 1 ? "" : "s", listed_lines(lines, failed));
  }
  if (before.count > 0) text += fmt::format(", {} of them from before", with_commas(before.count));
  const double rate = totals.seconds > 0 ? static_cast<double>(totals.output_tokens) / totals.seconds : 0;
  text += fmt::format(", {:.1f} s, {} output tok/s", totals.seconds, with_commas(static_cast<int64_t>(rate + 0.5)));
  return text + " → " + (options.output == "-" ? "standard output" : options.output);
}

// The template, where there are conversations for it. A model without one answers prompts all the same.
std::optional<ChatTemplate> load_template(const BatchOptions& options, const InputScan& scan) {
  const std::optional<std::string> flag = options.defaults.chat.given();
  if (scan.chats == 0 && !flag) return std::nullopt;
  const std::string& folder = options.defaults.model.folder;
  std::optional<ChatTemplate> chat = options.defaults.chat.load(folder);
  if (!chat && (flag || options.text_is_chat))
    throw UsageError(fmt::format("{} needs a chat template, and {} holds none. Give one with --chat-template FILE", flag.value_or("--chat"),
                                 in_quotes(folder)));
  return chat;
}

std::unique_ptr<Engine> load(const BatchOptions& options) {
  std::unique_ptr<Engine> engine = Engine::load(options.defaults.model.source(), options.engine_options());
  if (!engine->tokenizer())
    throw UsageError(
        "the model has no tokenizer (tokenizer.json or tokenizer.model), and a batch needs one. Use a folder with a tokenizer");
  for (const std::string& note : engine->info().notes) log_info("{}", note);
  log_info("{}", engine->info().device_reason);
  return engine;
}

struct BatchFiles {
  explicit BatchFiles(const BatchOptions& options) : output(options.output) {
    check_untouched(options, output, options.output);
    if (options.error_file.empty()) return;
    errors = std::make_unique<BatchOutput>(options.error_file);
    check_untouched(options, *errors, options.error_file);
  }
  void read_finished(FinishedLines& finished) {
    for_each([&](BatchOutput& file) {
      if (file.regular()) file.read_finished(finished);
    });
  }
  // From here on the files change.
  void prepare(const BatchOptions& options) {
    for_each([&](BatchOutput& file) {
      if (options.overwrite) file.clear();
      if (file.torn_bytes() > 0) log_warning("{} bytes of a record that was not written to its end are dropped", file.torn_bytes());
      file.drop_torn();
    });
  }
  template <typename Work>
  void for_each(Work&& work) {
    work(output);
    if (errors) work(*errors);
  }

  BatchOutput output;
  std::unique_ptr<BatchOutput> errors;
};

ExitCode answer_lines(const BatchOptions& options, const InputScan& scan, const FinishedLines& finished, const RunIdentity& identity,
                      RequestReader& reader, std::optional<ChatTemplate> chat, BatchFiles& files) {
  const std::unique_ptr<Engine> engine = load(options);
  PromptEncoder prompts(*engine->tokenizer(), std::move(chat), options.defaults.allow_special, engine->info().ctx_size,
                        options.defaults.truncate);
  const RecordWriter records(identity, options.defaults.model.name(), *engine->tokenizer(), prompts);
  files.prepare(options);
  BatchRun run({options, *engine, options.engine_options().max_num_seqs, reader, prompts, records, scan, finished, files.output,
                files.errors.get()});
  const std::string how_to_go_on =
      options.output == "-" ? "" : fmt::format(". The same command with --resume goes on from {}", in_quotes(options.output));
  std::optional<ExitCode> stopped;
  try {
    stopped = run.run();
  } catch (const Error& error) {
    const int64_t done = finished.count + run.totals().ok + run.totals().failed;
    log_info("{} of {} lines are done{}", with_commas(done), with_commas(scan.requests), how_to_go_on);
    throw;
  }
  if (files.output.reader_gone()) return ExitCode::ok;
  if (prompts.cut() > 0)
    log_warning("{} prompts were too long and have been cut on the {}", with_commas(prompts.cut()), options.defaults.truncate);
  if (!prompts.markers().empty())
    log_warning("messages contain {}, which counted as {}", quoted_list(prompts.markers()),
                options.defaults.allow_special ? "special tokens (--allow-special)" : "text; --allow-special makes such special tokens");
  const BatchTotals& totals = run.totals();
  log_info("{}", summary(options, finished, totals));
  if (!stopped) return finished.failed + totals.failed > 0 ? ExitCode::batch_partial : ExitCode::ok;
  const int64_t done = finished.count + totals.ok + totals.failed;
  const std::string discarded =
      totals.discarded > 0 ? fmt::format(" ({} more had to wait for an earlier line and will be made again)", with_commas(totals.discarded))
                           : "";
  log_info("interrupted: {} of {} lines are done{}{}", with_commas(done), with_commas(scan.requests), discarded, how_to_go_on);
  return *stopped;
}

ExitCode batch(BatchOptions& options) {
  const std::string& folder = options.defaults.model.folder;
  check_files(options);
  BatchFiles files(options);
  const LineFormat format = options.input_format == "auto"    ? guess_format(options.input)
                            : options.input_format == "jsonl" ? LineFormat::jsonl
                                                              : LineFormat::text;
  const GenerationDefaults generation = load_generation_config(folder);
  RequestReader::Defaults defaults{options.defaults.sampling(generation),
                                   options.defaults.sequences,
                                   options.defaults.add_special,
                                   options.strict,
                                   options.text_is_chat,
                                   options.system_message(),
                                   options.defaults.chat.kwargs()};
  defaults.params.validate(std::numeric_limits<int32_t>::max());
  if (const std::string decided = options.defaults.decided_by(generation); !decided.empty())
    log_info("from generation_config.json: {} (flags win; --generation-config none ignores it)", decided);

  RequestReader first_reader(format, defaults);
  const InputScan scan = scan_input(options.input, first_reader);
  report_scan(options, scan, format, first_reader);
  std::optional<ChatTemplate> chat = load_template(options, scan);

  FinishedLines finished(scan.lines);
  if (options.resume) files.read_finished(finished);
  const bool seed_given = options.defaults.seed && *options.defaults.seed != "-1";
  if (finished.run && !seed_given) defaults.params.seed = finished.run->seed;
  Digest settings;
  settings.add_field(options.settings_text(defaults.params, format));
  settings.add_field(fmt::format("{}", folder_digest(folder)));
  const RunIdentity identity{scan.digest, settings.value(), defaults.params.seed};
  if (finished.run) check_same_run(options, *finished.run, identity);
  log_info("seed {}", identity.seed);
  if (finished.count > 0)
    log_info("{} lines are done already, {} are left", with_commas(finished.count), with_commas(scan.requests - finished.count));
  if (finished.count == scan.requests) {
    files.prepare(options);
    log_info("{}", summary(options, finished, {}));
    return finished.failed > 0 ? ExitCode::batch_partial : ExitCode::ok;
  }
  RequestReader reader(format, std::move(defaults));
  return answer_lines(options, scan, finished, identity, reader, std::move(chat), files);
}

}  // namespace

ExitCode run_batch(const Arguments& arguments) {
  BatchOptions options;
  Flags flags("batch", kBatchHelp);
  options.add_to(flags);
  if (!flags.parse(arguments)) return ExitCode::ok;
  options.defaults.console.start();
  if (options.defaults.device.listed()) return ExitCode::ok;
  options.check();
  options.defaults.model.resolve();
  return batch(options);
}

}  // namespace bolide
