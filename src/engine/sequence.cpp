#include "engine/sequence.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace bolide {
namespace {

// Dividing by less overflows float32; such a temperature leaves no choice anyway.
constexpr float kGreedyBelow = 1e-5f;

double seconds(Sequence::Clock::duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace

Sequence::Sequence(SequenceId sequence_id, std::vector<int32_t> prompt, const SamplingParams& sampling, OutputSink& output,
                   const Tokenizer* tokenizer, int32_t output_limit, int32_t vocab_with_text)
    : id(sequence_id),
      params(sampling),
      sink(output),
      prompt_tokens(static_cast<int32_t>(prompt.size())),
      max_output(output_limit),
      tokens(std::move(prompt)),
      text(tokenizer, params),
      history_(params, tokens),
      vocab_with_text_(vocab_with_text),
      added_(Clock::now()) {
  if (params.prompt_logprobs) prompt_logprobs_.assign(tokens.size(), std::numeric_limits<float>::quiet_NaN());
}

int32_t Sequence::goal() const {
  if (max_output > 0) return std::min(static_cast<int32_t>(tokens.size()) + under_way, prompt_tokens + max_output - 1);
  return next_logprob_row_ < logprob_rows_end() ? logprob_rows_end() : 0;
}

void Sequence::set_prompt_logprob(int32_t row, float logprob) {
  BOLIDE_CHECK(row == known_logprob_rows_ && row < next_logprob_row_);
  prompt_logprobs_[static_cast<size_t>(row) + 1] = logprob;
  ++known_logprob_rows_;
}

bool Sequence::take_prompt_logprobs(std::vector<float>& out) {
  if (!params.prompt_logprobs || prompt_logprobs_taken_ || !logprobs_known()) return false;
  prompt_logprobs_taken_ = true;
  out = std::exchange(prompt_logprobs_, {});
  return true;
}

void Sequence::enter_step(int32_t count, int32_t logprob_end, bool draws) {
  BOLIDE_CHECK(count > 0 && count <= pending());
  computed += count;
  next_logprob_row_ = std::max(next_logprob_row_, logprob_end);
  under_way += draws ? 1 : 0;
}

SamplingSpec Sequence::next_token_spec(int32_t position) const {
  SamplingSpec spec;
  spec.temperature = params.temperature < kGreedyBelow ? 0.0f : params.temperature;
  spec.top_k = params.top_k > 0 ? params.top_k : 0;
  spec.top_p = params.top_p;
  spec.min_p = params.min_p;
  spec.repetition_penalty = params.repetition_penalty;
  spec.presence_penalty = params.presence_penalty;
  spec.frequency_penalty = params.frequency_penalty;
  spec.seed = params.seed;
  spec.sequence = params.sequence_key;
  spec.position = static_cast<uint32_t>(position);
  spec.allowed_vocab = vocab_with_text_;
  spec.top_logprobs = params.logprobs;
  return spec;
}

SamplingSpec Sequence::prompt_logprob_spec(int32_t row) const {
  SamplingSpec spec;
  spec.position = static_cast<uint32_t>(row) + 1;
  spec.target = tokens.at(static_cast<size_t>(row) + 1);
  spec.top_logprobs = 0;
  return spec;
}

void Sequence::append(int32_t token) {
  BOLIDE_CHECK(under_way > 0);
  --under_way;
  tokens.push_back(token);
  history_.push(tokens);
}

void Sequence::mark_scheduled(Clock::time_point now) {
  if (!first_scheduled_) first_scheduled_ = now;
}

void Sequence::mark_token(Clock::time_point now) {
  if (!first_token_) first_token_ = now;
}

SequenceStats Sequence::stats(Clock::time_point now) const {
  const Clock::time_point scheduled = first_scheduled_.value_or(now);
  const Clock::time_point first = first_token_.value_or(now);
  SequenceStats out;
  out.prompt_tokens = prompt_tokens;
  out.output_tokens = output_tokens();
  out.queue_seconds = seconds(scheduled - added_);
  out.prefill_seconds = seconds(first - scheduled);
  out.decode_seconds = seconds(now - first);
  out.preemptions = preemptions;
  out.cached_tokens = cached_tokens;
  return out;
}

}  // namespace bolide
