#include "cli/batch_prompt.h"

#include <limits>

#include "cli/prompt_cut.h"

namespace bolide {

std::vector<int32_t> PromptEncoder::encode_completion(const BatchPrompt& prompt, const BatchRequest& request) const {
  if (!prompt.text) return prompt.ids;
  return tokenizer_.encode(*prompt.text, {.add_special = request.add_special});
}

std::vector<int32_t> PromptEncoder::encode_chat(const BatchRequest& request) const {
  if (!chat_)
    throw FieldError("messages",
                     "the model has no chat template (chat_template.jinja, or \"chat_template\" in tokenizer_config.json), so messages "
                     "cannot be read. Send prompts, or give a template with --chat-template FILE");
  // The template writes the special tokens itself, BOS included.
  return tokenizer_.encode(chat_->render(request.messages, request.template_kwargs), {.add_special = false, .parse_special = true});
}

std::vector<std::vector<int32_t>> PromptEncoder::encode(const BatchRequest& request) {
  std::vector<std::vector<int32_t>> prompts;
  const int32_t limit = request.params.max_tokens;
  const int64_t max_tokens = limit == std::numeric_limits<int32_t>::max() ? -1 : limit;
  const auto add = [&](std::vector<int32_t> ids, const std::optional<std::string>& text, bool add_special) {
    if (ids.empty()) throw FieldError("prompt", "the prompt is empty: the model needs at least one token to go on from");
    if (cut_prompt(ids, text, &tokenizer_, {truncate_, ctx_size_, max_tokens, add_special})) ++cut_;
    prompts.push_back(std::move(ids));
  };
  if (request.chat) add(encode_chat(request), std::nullopt, false);
  for (const BatchPrompt& prompt : request.prompts) add(encode_completion(prompt, request), prompt.text, request.add_special);
  return prompts;
}

std::string PromptEncoder::echoed(const BatchPrompt& prompt) const {
  return prompt.text ? *prompt.text : tokenizer_.decode(prompt.ids, false);
}

}  // namespace bolide
