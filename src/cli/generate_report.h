// What `generate` says about a finished run: JSON for scripts, a few lines of statistics for people.
#pragma once

#include <string>
#include <vector>

#include "cli/collector.h"
#include "cli/generate_options.h"
#include "cli/prompt_input.h"
#include "engine/engine.h"

namespace bolide {

// JSON keys are a contract with scripts: additions only, a change of meaning raises the number.
constexpr int kGenerateSchemaVersion = 1;

struct GenerateRun {
  const GenerateOptions& options;
  const SamplingParams& params;
  const Prompt& prompt;
  const Engine& engine;
  const std::vector<SequenceResult>& results;
  double load_begin_seconds = 0;  // from the start of the program to the start of loading
  double load_seconds = 0;
  double first_token_seconds = 0;  // from the start of the program; 0 when no token came
  double total_seconds = 0;        // idem, to the end of the last sequence
};

// Rates of one or several sequences that ran together. Prefill: prompt tokens over the longest prefill. Decode: tokens after each
// sequence's first over the longest decode. 0 when there was nothing to time.
struct Rates {
  int64_t output_tokens = 0;
  double prefill_seconds = 0, prefill_rate = 0, decode_seconds = 0, decode_rate = 0;
};
Rates rates_of(std::span<const SequenceResult> results);

// One object and a line feed; for jsonl one such line per sequence.
std::string json_report(const GenerateRun& run);

// "stopped: length (512 of --max-tokens 512)"
std::string stop_text(const GenerateRun& run, const SequenceResult& result);

// Where the time to the first token went, as one line.
std::string load_split(const GenerateRun& run);

// Lines for standard error.
std::vector<std::string> statistics(const GenerateRun& run);

}  // namespace bolide
