// One line of a batch on its way through the engine: its sequences, and what they have made so far.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/batch_request.h"
#include "cli/collector.h"
#include "engine/engine.h"

namespace bolide {

// A token as log-probabilities report it.
struct LogprobToken {
  int32_t id;
  float logprob;
  int64_t offset;  // characters of text before it
  std::vector<TokenLogprob> top;
};

// Of a whole run, kept up to date by its jobs.
struct BatchCounters {
  int64_t tokens = 0;  // made so far
  int64_t ended = 0;   // sequences
};

class BatchJob {
 public:
  struct Choice final : OutputSink {
    SequenceResult result;
    std::vector<LogprobToken> tokens;  // when log-probabilities were asked for
    BatchJob* job = nullptr;
    SequenceId sequence = 0;
    int64_t text_characters = 0;

    void on_token(const TokenEvent& event) override;
    void on_finish(const FinishEvent& event) override;
  };

  // `done` is called from the engine's step when the last sequence has ended; it must not destroy the job.
  BatchJob(BatchRequest request, BatchCounters& counters, std::function<void(BatchJob&)> done)
      : request_(std::move(request)), counters_(counters), done_(std::move(done)) {}
  BatchJob(const BatchJob&) = delete;
  BatchJob& operator=(const BatchJob&) = delete;

  // Hands its sequences to the engine: n for each prompt. False, with the reason in refusal(), when the engine takes none of them;
  // where it took some already, those are cancelled and `done` is called all the same once they have ended.
  bool start(Engine& engine, std::vector<std::vector<int32_t>> prompts);
  void cancel(Engine& engine) const;

  const BatchRequest& request() const { return request_; }
  const std::vector<std::unique_ptr<Choice>>& choices() const { return choices_; }
  size_t sequences() const { return choices_.size(); }
  const std::optional<std::string>& refusal() const { return refusal_; }
  int64_t prompt_tokens() const { return prompt_tokens_; }
  int64_t output_tokens() const;
  bool cancelled() const;  // a sequence of it ended before its time

 private:
  void sequence_done();

  BatchRequest request_;
  BatchCounters& counters_;
  std::function<void(BatchJob&)> done_;
  std::vector<std::unique_ptr<Choice>> choices_;  // prompt by prompt
  size_t running_ = 0;
  int64_t prompt_tokens_ = 0;
  std::optional<std::string> refusal_;
};

}  // namespace bolide
