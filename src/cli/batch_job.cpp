#include "cli/batch_job.h"

#include <algorithm>

namespace bolide {
namespace {

int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

}  // namespace

void BatchJob::Choice::on_token(const TokenEvent& event) {
  if (job->request_.params.logprobs >= 0) {
    tokens.push_back({event.token_id, event.logprob, text_characters, {event.top.begin(), event.top.end()}});
    text_characters += characters(event.text);
  }
  ++result.stats.output_tokens;
  ++job->counters_.tokens;
  result.text += event.text;
}

void BatchJob::Choice::on_finish(const FinishEvent& event) {
  result.text += event.text;
  result.reason = event.reason;
  result.stop_match = event.stop_match;
  result.stop_token = event.stop_token;
  result.stats = event.stats;
  job->sequence_done();
}

bool BatchJob::start(Engine& engine, std::vector<std::vector<int32_t>> prompts) {
  SamplingParams params = request_.params;
  for (const std::vector<int32_t>& prompt : prompts) {
    prompt_tokens_ += static_cast<int64_t>(prompt.size());
    for (int32_t i = 0; i < request_.n; ++i) {
      // Apart for every choice of the line, so that equal prompts in one list are drawn independently.
      params.sequence_key = choices_.size();
      auto choice = std::make_unique<Choice>();
      choice->job = this;
      try {
        choice->sequence = engine.add(prompt, params, *choice);
      } catch (const Error& error) {
        refusal_ = error.what();
        cancel(engine);
        return running_ > 0;
      }
      choices_.push_back(std::move(choice));
      ++running_;
    }
  }
  return true;
}

void BatchJob::cancel(Engine& engine) const {
  for (const auto& choice : choices_) engine.cancel(choice->sequence);
}

void BatchJob::sequence_done() {
  ++counters_.ended;
  if (--running_ == 0) done_(*this);
}

int64_t BatchJob::output_tokens() const {
  int64_t sum = 0;
  for (const auto& choice : choices_) sum += choice->result.stats.output_tokens;
  return sum;
}

bool BatchJob::cancelled() const {
  return std::any_of(choices_.begin(), choices_.end(), [](const auto& c) { return c->result.reason == FinishReason::cancelled; });
}

}  // namespace bolide
