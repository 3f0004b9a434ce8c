// What turns a prompt into a conversation and a conversation into text: the flags that `generate` and `template` share.
#pragma once

#include <optional>
#include <string>

#include "cli/flags.h"
#include "cli/json.h"
#include "text/chat_template.h"

namespace bolide {

struct ChatOptions {
  std::optional<std::string> system, system_file, chat_template;
  std::string template_kwargs;
  std::optional<bool> think;

  void add_to(Flags& flags);
  // Whether a flag was given that only a chat template can honour; its name, for messages.
  std::optional<std::string> given() const;

  // The template of --chat-template, else the folder's; nothing when there is neither. Throws UsageError for a --chat-template that is
  // neither a file nor a template, ModelError for a template that cannot be read.
  std::optional<ChatTemplate> load(const std::string& folder) const;
  // The system message where one is given, then the user's.
  Json messages(const std::string& prompt) const;
  // --chat-template-kwargs and enable_thinking of --think and --no-think. Throws UsageError for what is no JSON object.
  Json kwargs() const;
};

}  // namespace bolide
