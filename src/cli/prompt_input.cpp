#include "cli/prompt_input.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <utility>

#include "cli/log.h"
#include "cli/prompt_cut.h"
#include "cli/streams.h"
#include "cli/values.h"
#include "text/chat_prompt.h"
#include "text/utf8.h"

namespace bolide {
namespace {

std::string prompt_text(const GenerateOptions& options) {
  if (options.prompt && *options.prompt != "-") return *options.prompt;
  if (options.prompt_file) return read_input(*options.prompt_file);
  if (options.prompt || !isatty(STDIN_FILENO)) return read_input("-");
  throw UsageError("no prompt: give one with --prompt TEXT, --file FILE or --prompt-ids IDS, or on standard input");
}

// What stands around the text of a prompt that the tokenizer or a chat template put into a frame.
PromptFrame special_frame(const Prompt& prompt, const GenerateOptions& options, const Tokenizer* tokenizer) {
  if (!prompt.text || !tokenizer || (!options.add_special && !prompt.said)) return {};
  const std::optional<PromptFrame> frame = frame_of(prompt.ids, prompt.said.value_or(*prompt.text), *tokenizer);
  if (!frame && prompt.said)
    throw Error("--truncate cannot tell the prompt from what the chat template puts around it. Shorten the prompt, or use --raw");
  return frame.value_or(PromptFrame{});
}

}  // namespace

Prompt read_prompt(const GenerateOptions& options) {
  Prompt prompt;
  if (options.prompt_ids) {
    prompt.ids = parse_ids("--prompt-ids", *options.prompt_ids == "-" ? read_input("-") : *options.prompt_ids);
    if (prompt.ids.empty()) throw UsageError("--prompt-ids holds no token ids");
    return prompt;
  }
  std::string text = prompt_text(options);
  if (options.escape) text = unescape(text);
  if (const auto offset = first_invalid_utf8(text)) {
    throw Error(fmt::format("the prompt is not valid UTF-8: byte {} of {} (0x{:02x}). Convert it, for example with: iconv -t UTF-8",
                            *offset, text.size(), static_cast<unsigned char>(text[*offset])));
  }
  prompt.text = std::move(text);
  return prompt;
}

namespace {

void encode_conversation(Prompt& prompt, const GenerateOptions& options, const Tokenizer& tokenizer, const ChatTemplate& chat) {
  Json kwargs = options.chat.kwargs();
  if (!kwargs.contains("add_generation_prompt")) kwargs["add_generation_prompt"] = true;
  if (options.chat.think && !chat.reads("enable_thinking"))
    log_warning("{}: the chat template does not read enable_thinking, so it changes nothing",
                *options.chat.think ? "--think" : "--no-think");
  try {
    ChatPrompt encoded = encode_chat(chat, tokenizer, options.chat.messages(*prompt.text), kwargs, options.allow_special);
    prompt.said = std::exchange(prompt.text, std::move(encoded.text));
    prompt.ids = std::move(encoded.ids);
    if (encoded.markers.empty()) return;
    log_warning("the prompt contains {}, which counts as {}", fmt::join(encoded.markers, ", "),
                options.allow_special ? "a special token (--allow-special)" : "text; --allow-special makes it a special token");
  } catch (const ModelError& error) {
    throw ModelError(fmt::format("{}. Give another chat template with --chat-template FILE, or leave it out with --raw", error.what()));
  }
}

}  // namespace

void encode_prompt(Prompt& prompt, const GenerateOptions& options, const Tokenizer* tokenizer, const std::optional<ChatTemplate>& chat) {
  if (!prompt.text) return;
  if (!tokenizer)
    throw UsageError(
        "the model has no tokenizer (tokenizer.json or tokenizer.model), so a text prompt cannot be read. Use --prompt-ids "
        "with --output-format json, or a folder with a tokenizer");
  if (prompt.text->empty()) throw UsageError("the prompt is empty: give one with --prompt TEXT, --file FILE or on standard input");
  if (chat) return encode_conversation(prompt, options, *tokenizer, *chat);
  prompt.ids = tokenizer->encode(*prompt.text, {.add_special = options.add_special});
  if (prompt.ids.empty()) throw UsageError("the prompt is empty: give one with --prompt TEXT, --file FILE or on standard input");
}

void truncate_prompt(Prompt& prompt, const GenerateOptions& options, const Tokenizer* tokenizer, int64_t ctx_size) {
  const size_t size = prompt.ids.size();
  const PromptCut cut{options.truncate, ctx_size, options.max_tokens};
  if (!cut.needed(size)) return;
  cut_prompt(prompt.ids, special_frame(prompt, options, tokenizer), cut);
  log_warning("prompt cut on the {} from {} to {} tokens; {} of the context's {} are left for the output", options.truncate, size,
              prompt.ids.size(), ctx_size - static_cast<int64_t>(prompt.ids.size()), ctx_size);
}

}  // namespace bolide
