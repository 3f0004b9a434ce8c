#include "text/chat_prompt.h"

#include <algorithm>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/messages.h"
#include "text/aho_corasick.h"
#include "text/unicode.h"

namespace bolide {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 200;  // of messages; deeper ones are refused when they are rendered

// The tokens that a message must not smuggle in.
class Markers {
 public:
  Markers(const ChatTemplate& chat, const Tokenizer& tokenizer) {
    for (AddedTokenName& token : tokenizer.added_tokens()) {
      if (token.content.empty() || !(token.special || chat.writes(token.content))) continue;
      all_.add(token.content);
      if (token.special) special_.add(token.content);
    }
    all_.build();
    special_.build();
  }

  // In a message of the model itself, what it cannot have written as a token (special ones are no part of its text) is a marker.
  std::vector<ByteRange> find(std::string_view text, bool own) const {
    std::vector<ByteRange> out;
    size_t from = 0;
    while (const auto match = (own ? special_ : all_).find(text, from)) {
      out.push_back({match->begin, match->end});
      from = match->end;
    }
    return out;
  }

 private:
  AhoCorasick all_, special_;
};

bool is_own(const Json& message) { return message.is_object() && message.contains("role") && message["role"] == "assistant"; }

// Calls `change` with every text of the messages, at any depth, and whether it is the model's own; keys are left alone.
template <class Change>
void for_each_text(Json& value, Change&& change, bool own = false, int depth = 0) {
  if (depth > kMaxDepth) return;
  if (value.is_string()) {
    change(value.get_ref<std::string&>(), own);
  } else if (value.is_structured()) {
    for (Json& inner : value) for_each_text(inner, change, own || (depth == 0 && is_own(inner)), depth + 1);
  }
}

// Two characters for private use that stand nowhere in the text: what is put around markers to find them again.
std::pair<std::string, std::string> unused_characters(const std::string& text) {
  std::vector<std::string> out;
  for (char32_t c = 0xF0000; c <= 0xFFFFD && out.size() < 2; ++c) {
    std::string bytes;
    append_code_point(bytes, c);
    if (text.find(bytes) == std::string::npos) out.push_back(std::move(bytes));
  }
  BOLIDE_CHECK(out.size() == 2);
  return {out[0], out[1]};
}

// The text without the two characters, and the bytes that were between them.
struct Unwrapped {
  std::string text;
  std::vector<ByteRange> inside;
};
Unwrapped unwrap(std::string_view wrapped, const std::string& open, const std::string& close) {
  Unwrapped out;
  std::optional<size_t> begin;
  for (size_t i = 0; i < wrapped.size();) {
    const std::string_view rest = wrapped.substr(i);
    const bool opens = rest.starts_with(open), closes = rest.starts_with(close);
    if (opens) begin = out.text.size();
    if (closes && begin) out.inside.push_back({*begin, out.text.size()});
    if (closes) begin.reset();
    if (!opens && !closes) out.text += wrapped[i];
    i += opens ? open.size() : closes ? close.size() : 1;
  }
  return out;
}

}  // namespace

ChatPrompt encode_chat(const ChatTemplate& chat, const Tokenizer& tokenizer, const Json& messages, const Json& kwargs, bool allow_special) {
  ChatPrompt out;
  out.text = chat.render(messages, kwargs);
  const Markers markers(chat, tokenizer);
  Json marked = messages;
  std::set<std::string> found;
  std::string all = out.text;
  for_each_text(marked, [&](std::string& text, bool own) {
    all += text;
    for (const ByteRange range : markers.find(text, own)) found.insert(text.substr(range.begin, range.end - range.begin));
  });
  out.markers.assign(found.begin(), found.end());
  if (allow_special || found.empty()) {
    out.ids = tokenizer.encode(out.text, {.add_special = false});
    return out;
  }

  const auto [open, close] = unused_characters(all);
  for_each_text(marked, [&, &before = open, &after = close](std::string& text, bool own) {
    const std::vector<ByteRange> ranges = markers.find(text, own);
    for (auto range = ranges.rbegin(); range != ranges.rend(); ++range) {
      text.insert(range->end, after);
      text.insert(range->begin, before);
    }
  });
  const Unwrapped unwrapped = unwrap(chat.render(marked, kwargs), open, close);
  if (unwrapped.text != out.text) {
    throw Error(
        fmt::format("the chat template looks at {}, which a message contains, so it cannot be kept as plain text. Leave it out of "
                    "the message, or let it count as a special token with --allow-special",
                    in_quotes(out.markers.front())));
  }
  out.ids = tokenizer.encode(out.text, {.add_special = false, .plain = unwrapped.inside});
  return out;
}

}  // namespace bolide
