// What `bolide chat` is asked for. Model, template and sampling are those of `generate`.
#pragma once

#include "cli/generate_options.h"

namespace bolide {

struct ChatFlags {
  GenerateOptions run;
  bool stats = false;
  bool no_history = false;

  void add_to(Flags& flags);
  // Throws UsageError where the model has none.
  ChatTemplate chat_template() const;
  // --system or --system-file.
  std::optional<std::string> system() const;
  // One sequence, and a prefix cache in small pieces: what a turn repeats of the conversation is found up to the last of them.
};

extern const std::string_view kChatHelp;

}  // namespace bolide
