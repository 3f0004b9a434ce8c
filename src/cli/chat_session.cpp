#include "cli/chat_session.h"

#include <signal.h>

#include <algorithm>

#include "cli/line_input.h"
#include "cli/load_engine.h"
#include "cli/log.h"
#include "core/human.h"

namespace bolide {
namespace {

// Sends the text on and keeps it.
class AnswerSink final : public OutputSink {
 public:
  AnswerSink(ChatScreen& screen, ChatAnswer& answer) : screen_(screen), answer_(answer) {}
  void on_token(const TokenEvent& event) override { add(event.text); }
  void on_finish(const FinishEvent& event) override {
    add(event.text);
    answer_.reason = event.reason;
    answer_.stats = event.stats;
  }

 private:
  void add(std::string_view text) {
    answer_.text += text;
    screen_.add(text);
  }
  ChatScreen& screen_;
  ChatAnswer& answer_;
};

// Runs the engine to the answer's end; Ctrl-C, SIGTERM or a terminal that is gone end it after the step under way.
void run_answer(Engine& engine, SequenceId id, ChatAnswer& answer, const ChatScreen& screen, SignalQueue& signals) {
  signals.second_ends(true);
  const std::unique_ptr<SignalQueue, void (*)(SignalQueue*)> leave(&signals, [](SignalQueue* queue) { queue->second_ends(false); });
  while (engine.step()) {
    if (screen.failed()) engine.cancel(id);
    while (const int signal_number = signals.next()) {
      if (signal_number == SIGTSTP) stop_until_continued();
      if (signal_number == SIGTERM) answer.terminated = true;
      if (signal_number == SIGINT || signal_number == SIGTERM) engine.cancel(id);
    }
  }
}

// After a failure the engine still ends the sequence, and its sink must be there to hear of it.
void let_go(Engine& engine) {
  try {
    while (engine.step()) {
    }
  } catch (const std::exception& error) {
    log_debug("while the failed answer was let go: {}", error.what());
  }
}

}  // namespace

ChatSession::ChatSession(const ChatFlags& flags)
    : model_name_(flags.run.model.name()), template_(flags.chat_template()), allow_special_(flags.run.allow_special) {
  conversation.system = flags.system();
  template_kwargs = flags.run.chat.kwargs();
  hide_thinking = flags.run.hide_thinking;
  engine_ = load_engine(flags.run, flags.run.engine_options());
  if (!engine_->tokenizer())
    throw UsageError("the model has no tokenizer (tokenizer.json or tokenizer.model), and a chat needs one. Use a folder with a tokenizer");
  const GenerationDefaults& defaults = engine_->generation_defaults();
  params = flags.run.sampling(defaults);
  params.validate(engine_->config().vocab);
  warn_of_endless_thinking(*engine_, template_, template_kwargs, params);
  if (const std::string decided = flags.run.decided_by(defaults); !decided.empty())
    log_info("from generation_config.json: {} (flags and /set win; --generation-config none ignores it)", decided);
}

ChatPrompt ChatSession::encode(const Conversation& asked, const std::string* question) const {
  Json kwargs = template_kwargs;
  if (!kwargs.contains("add_generation_prompt")) kwargs["add_generation_prompt"] = question != nullptr;
  try {
    return encode_chat(template_, *engine_->tokenizer(), asked.messages(question), kwargs, allow_special_);
  } catch (const ModelError& error) {
    throw Error(fmt::format("{}. Another template: --chat-template FILE", error.what()));
  }
}

int64_t ChatSession::tokens_of(const Conversation& asked) const {
  if (asked.turns.empty()) return 0;  // a template may refuse to go without a question
  return static_cast<int64_t>(encode(asked, nullptr).ids.size());
}

void ChatSession::warn_of_markers(const ChatPrompt& prompt) {
  for (const std::string& marker : prompt.markers) {
    if (std::find(markers_told_.begin(), markers_told_.end(), marker) != markers_told_.end()) continue;
    markers_told_.push_back(marker);
    log_warning("the conversation contains {}, which counts as {}", marker,
                allow_special_ ? "a special token (--allow-special)" : "text; --allow-special makes it a special token");
  }
}

ChatAnswer ChatSession::answer(const std::string& question, uint64_t attempt, ChatScreen& screen, SignalQueue& signals) {
  ChatPrompt prompt = encode(conversation, &question);
  const auto tokens = static_cast<int64_t>(prompt.ids.size());
  const int64_t context = engine_->info().ctx_size;
  if (tokens >= context) {
    throw Error(
        fmt::format("the context is full: with this message the conversation has {} tokens, and the context holds {}. The message "
                    "was not sent. /save keeps the conversation, /clear begins a new one, --ctx-size N at the start gives more room",
                    with_commas(tokens), with_commas(context)));
  }
  warn_of_markers(prompt);
  SamplingParams drawn = params;
  drawn.sequence_key = attempt;
  ChatAnswer out;
  AnswerSink sink(screen, out);
  const SequenceId id = engine_->add(std::move(prompt.ids), drawn, sink);
  screen.begin_answer(hide_thinking, ends_in_thinking(prompt.text));
  try {
    run_answer(*engine_, id, out, screen, signals);
  } catch (...) {
    screen.end_answer();
    let_go(*engine_);
    throw;
  }
  screen.end_answer();
  return out;
}

ChatAnswer ChatSession::ask(const std::string& question, ChatScreen& screen, SignalQueue& signals) {
  ChatAnswer out = answer(question, 0, screen, signals);
  if (out.text.empty() && out.reason == FinishReason::cancelled) return out;
  conversation.turns.push_back({question, out.text});
  attempt_ = 0;
  return out;
}

ChatAnswer ChatSession::regenerate(ChatScreen& screen, SignalQueue& signals) {
  BOLIDE_CHECK(!conversation.turns.empty());
  ChatTurn old = std::move(conversation.turns.back());
  conversation.turns.pop_back();
  const auto put_back = [&] { conversation.turns.push_back(std::move(old)); };
  try {
    ChatAnswer out = answer(old.question, ++attempt_, screen, signals);
    if (!out.text.empty() || out.reason != FinishReason::cancelled) old.answer = out.text;
    put_back();
    return out;
  } catch (...) {
    put_back();
    throw;
  }
}

std::string ChatSession::why_it_ended(const ChatAnswer& answer) const {
  if (answer.reason == FinishReason::cancelled) return "stopped: interrupted";
  if (answer.reason != FinishReason::length) return "stopped: end of the answer";
  if (answer.stats.output_tokens >= params.max_tokens)
    return fmt::format("stopped: length ({} of --max-tokens {})", answer.stats.output_tokens, params.max_tokens);
  return fmt::format(
      "stopped: the context of {} tokens is full. /clear begins a new conversation, --ctx-size N at the start gives more room",
      with_commas(engine_->info().ctx_size));
}

std::string ChatSession::statistics(const ChatAnswer& answer) const {
  const SequenceStats& s = answer.stats;
  const int64_t computed = s.prompt_tokens - s.cached_tokens;
  std::string line = fmt::format("prompt {} tokens: {} known, {} computed", s.prompt_tokens, s.cached_tokens, computed);
  if (s.prefill_seconds > 0 && s.output_tokens > 0)
    line += fmt::format(" in {:.2f} s ({:.1f} tok/s)", s.prefill_seconds, static_cast<double>(computed) / s.prefill_seconds);
  line += fmt::format(" | answer {} tokens", s.output_tokens);
  if (s.decode_seconds > 0 && s.output_tokens > 1)
    line += fmt::format(", {:.1f} tok/s", static_cast<double>(s.output_tokens - 1) / s.decode_seconds);
  line += fmt::format(" | context {} of {}", with_commas(s.prompt_tokens + s.output_tokens), with_commas(engine_->info().ctx_size));
  return line + " | " + why_it_ended(answer);
}

}  // namespace bolide
