// The records of a batch's output: OpenAI's form, one JSON object a line, and what says which line of which run a record belongs to.
#pragma once

#include <ctime>
#include <string>

#include "cli/batch_job.h"
#include "cli/batch_output.h"
#include "cli/batch_prompt.h"
#include "cli/batch_request.h"

namespace bolide {

// JSON keys are a contract with scripts: additions only, a change of meaning raises the number.
constexpr int kBatchSchemaVersion = 1;

class RecordWriter {
 public:
  RecordWriter(const RunIdentity& run, std::string model, const Tokenizer& tokenizer, const PromptEncoder& prompts)
      : run_(run), model_(std::move(model)), tokenizer_(tokenizer), prompts_(prompts) {}

  // All end in a line feed. `created`: seconds since 1970.
  std::string answer(const BatchJob& job, std::time_t created) const;
  // The line was no request: no response, an error with a code.
  std::string line_error(int64_t line, const std::string& custom_id, const std::string& text) const;
  // A request that was not answered: status 400 (its own fault) or 500.
  std::string request_error(int64_t line, const std::string& custom_id, int status, const std::string& field,
                            const std::string& text) const;

 private:
  std::string id(const char* prefix, int64_t line) const;
  Json record(int64_t line, const std::string& custom_id) const;
  Json body(const BatchJob& job, std::time_t created) const;
  Json choice(const BatchJob& job, size_t index) const;
  Json completion_logprobs(const BatchJob::Choice& choice) const;
  Json chat_logprobs(const BatchJob::Choice& choice) const;
  std::string token_text(int32_t id) const;

  RunIdentity run_;
  std::string model_;
  const Tokenizer& tokenizer_;
  const PromptEncoder& prompts_;
};

}  // namespace bolide
