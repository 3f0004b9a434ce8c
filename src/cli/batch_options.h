// What `bolide batch` is asked for, and the flags that say so.
#pragma once

#include <string>

#include "cli/batch_request.h"
#include "cli/generate_options.h"

namespace bolide {

struct BatchOptions {
  std::string input, output, error_file;
  std::string input_format = "auto";  // auto, jsonl, text
  bool resume = false, overwrite = false, unordered = false, fail_fast = false, strict = false;
  bool text_is_chat = false;  // prompts that are a text alone are what a user says
  // What a line that says nothing else asks for, and how the engine is set up: the fields that generate has as well.
  GenerateOptions defaults;

  void add_to(Flags& flags);
  // What can be checked before any file is read. Throws UsageError.
  void check() const;

  // Of --system or --system-file; null when there is none.
  Json system_message() const;
  EngineOptions engine_options() const;
  // Of the flags that decide what comes out of a line, the seed apart: equal for two runs whose records belong together. `params`:
  // what defaults.sampling() gave.
  std::string settings_text(const SamplingParams& params, LineFormat format) const;
};

extern const std::string_view kBatchHelp;

}  // namespace bolide
