#include "cli/batch_prompt.h"

#include <limits>

#include "text/chat_prompt.h"

namespace bolide {
namespace {

constexpr size_t kMaxMarkers = 20;

}  // namespace

std::vector<int32_t> PromptEncoder::encode_completion(const BatchPrompt& prompt, const BatchRequest& request) const {
  if (!prompt.text) return prompt.ids;
  return tokenizer_.encode(*prompt.text, {.add_special = request.add_special});
}

std::vector<int32_t> PromptEncoder::encode_chat(const BatchRequest& request) {
  if (!chat_)
    throw FieldError("messages",
                     "the model has no chat template (chat_template.jinja, or \"chat_template\" in tokenizer_config.json), so messages "
                     "cannot be read. Send prompts, or give a template with --chat-template FILE");
  ChatPrompt prompt = bolide::encode_chat(*chat_, tokenizer_, request.messages, request.template_kwargs, allow_special_);
  for (const std::string& marker : prompt.markers) {
    if (markers_.size() < kMaxMarkers) markers_.insert(marker);
  }
  return std::move(prompt.ids);
}

// What --truncate may cut away: the text of a completion, the last message of a chat.
PromptFrame PromptEncoder::frame(const std::vector<int32_t>& ids, const BatchRequest& request, size_t index) const {
  if (request.chat) {
    const Json& content = request.messages.back().value("content", Json());
    const auto found = content.is_string() ? frame_of(ids, content.get<std::string>(), tokenizer_) : std::nullopt;
    if (!found)
      throw FieldError("messages",
                       "the prompt is too long, and --truncate cannot tell its last message from what the template puts around it");
    return *found;
  }
  const BatchPrompt& prompt = request.prompts[index];
  return prompt.text && request.add_special ? frame_of(ids, *prompt.text, tokenizer_).value_or(PromptFrame{}) : PromptFrame{};
}

std::vector<std::vector<int32_t>> PromptEncoder::encode(const BatchRequest& request) {
  std::vector<std::vector<int32_t>> prompts;
  const int32_t limit = request.params.max_tokens;
  const int64_t max_tokens = limit == std::numeric_limits<int32_t>::max() ? -1 : limit;
  const PromptCut cut{truncate_, ctx_size_, max_tokens};
  const auto add = [&](std::vector<int32_t> ids) {
    if (ids.empty()) throw FieldError("prompt", "the prompt is empty: the model needs at least one token to go on from");
    if (cut.needed(ids.size())) {
      cut_prompt(ids, frame(ids, request, prompts.size()), cut);
      ++cut_;
    }
    prompts.push_back(std::move(ids));
  };
  if (request.chat) add(encode_chat(request));
  for (const BatchPrompt& prompt : request.prompts) add(encode_completion(prompt, request));
  return prompts;
}

std::string PromptEncoder::echoed(const BatchPrompt& prompt) const {
  return prompt.text ? *prompt.text : tokenizer_.decode(prompt.ids, false);
}

}  // namespace bolide
