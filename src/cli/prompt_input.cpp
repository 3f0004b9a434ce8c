#include "cli/prompt_input.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>

#include "cli/streams.h"
#include "cli/values.h"
#include "text/utf8.h"

namespace bolide {
namespace {

std::string prompt_text(const GenerateOptions& options) {
  if (options.prompt && *options.prompt != "-") return *options.prompt;
  if (options.prompt_file) return read_input(*options.prompt_file);
  if (options.prompt || !isatty(STDIN_FILENO)) return read_input("-");
  throw UsageError("no prompt: give one with --prompt TEXT, --file FILE or --prompt-ids IDS, or on standard input");
}

// How many ids the tokenizer puts before and after the text's own.
struct Frame {
  size_t before = 0, after = 0;
};
Frame special_frame(const Prompt& prompt, const GenerateOptions& options, const Tokenizer* tokenizer) {
  if (!prompt.text || !tokenizer || !options.add_special) return {};
  const std::vector<int32_t> bare = tokenizer->encode(*prompt.text, {.add_special = false});
  const auto begin = std::search(prompt.ids.begin(), prompt.ids.end(), bare.begin(), bare.end());
  if (begin == prompt.ids.end()) return {};
  const size_t before = static_cast<size_t>(begin - prompt.ids.begin());
  return {before, prompt.ids.size() - before - bare.size()};
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

void encode_prompt(Prompt& prompt, const GenerateOptions& options, const Tokenizer* tokenizer) {
  if (!prompt.text) return;
  if (!tokenizer)
    throw UsageError(
        "the model has no tokenizer (tokenizer.json or tokenizer.model), so a text prompt cannot be read. Use --prompt-ids "
        "with --output-format json, or a folder with a tokenizer");
  prompt.ids = tokenizer->encode(*prompt.text, {.add_special = options.add_special});
  if (prompt.ids.empty()) throw UsageError("the prompt is empty: give one with --prompt TEXT, --file FILE or on standard input");
}

void truncate_prompt(Prompt& prompt, const GenerateOptions& options, const Tokenizer* tokenizer, int64_t ctx_size) {
  const int64_t size = static_cast<int64_t>(prompt.ids.size());
  if (options.truncate.empty() || size < ctx_size) return;
  const bool fits = options.max_tokens > 0 && options.max_tokens < ctx_size;
  const int64_t room = fits ? options.max_tokens : std::max<int64_t>(1, ctx_size / 4);
  const Frame frame = special_frame(prompt, options, tokenizer);
  const int64_t kept = std::max<int64_t>(1, ctx_size - room);
  const auto begin = prompt.ids.begin() + static_cast<std::ptrdiff_t>(frame.before);
  const auto end = prompt.ids.end() - static_cast<std::ptrdiff_t>(frame.after);
  const auto cut = static_cast<std::ptrdiff_t>(std::min<int64_t>(size - kept, end - begin));
  if (options.truncate == "left")
    prompt.ids.erase(begin, begin + cut);
  else
    prompt.ids.erase(end - cut, end);
  spdlog::warn("prompt cut on the {} from {} to {} tokens; {} of the context's {} are left for the output", options.truncate, size,
               prompt.ids.size(), ctx_size - static_cast<int64_t>(prompt.ids.size()), ctx_size);
}

}  // namespace bolide
