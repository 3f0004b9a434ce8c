// A conversation with a loaded model: what was said, how the next answer is drawn, and what the answer cost.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cli/chat_conversation.h"
#include "cli/chat_flags.h"
#include "cli/chat_screen.h"
#include "cli/signals.h"
#include "engine/engine.h"
#include "text/chat_prompt.h"

namespace bolide {

struct ChatAnswer {
  std::string text;
  FinishReason reason = FinishReason::none;
  SequenceStats stats;
  bool terminated = false;  // SIGTERM ended it
};

class ChatSession {
 public:
  // Loads the model. Throws UsageError, ModelError, MemoryError.
  explicit ChatSession(const ChatFlags& flags);

  // Asks the model and streams its answer to the screen. Question and answer join the conversation, also an answer that Ctrl-C stopped,
  // unless it was stopped before its first character. Throws Error where nothing could be asked, above all when the conversation does not
  // fit the context; the conversation is then as it was.
  ChatAnswer ask(const std::string& question, ChatScreen& screen, SignalQueue& signals);
  // Draws the last answer anew, from other random numbers. The old one stays where none comes in its place. The conversation must have a
  // turn.
  ChatAnswer regenerate(ChatScreen& screen, SignalQueue& signals);

  // Of the conversation as it is, rendered and encoded. Throws Error when the template refuses it.
  int64_t tokens_of(const Conversation& conversation) const;

  // A line about an answer: prompt and how much of it was computed, rates, the context, why it ended.
  std::string statistics(const ChatAnswer& answer) const;
  std::string why_it_ended(const ChatAnswer& answer) const;

  Conversation conversation;
  SamplingParams params;
  Json template_kwargs;
  bool hide_thinking = false;

  const Engine& engine() const { return *engine_; }
  const std::string& model_name() const { return model_name_; }
  const ChatTemplate& chat_template() const { return template_; }

 private:
  ChatPrompt encode(const Conversation& conversation, const std::string* question) const;
  ChatAnswer answer(const std::string& question, uint64_t attempt, ChatScreen& screen, SignalQueue& signals);
  void warn_of_markers(const ChatPrompt& prompt);

  std::string model_name_;
  ChatTemplate template_;
  bool allow_special_;
  std::unique_ptr<Engine> engine_;
  uint64_t attempt_ = 0;  // of the last answer
  std::vector<std::string> markers_told_;
};

}  // namespace bolide
