#include "text/pattern.h"

#include "text/regex_syntax.h"
#include "text/unicode.h"

namespace bolide {

Pattern Pattern::literal(const std::string& text) { return text.empty() ? regex("") : Pattern(Kind(text)); }

Pattern Pattern::regex(std::string_view text) { return Pattern(Kind(Regex(text))); }

Pattern Pattern::characters(Predicate holds) { return Pattern(Kind(holds)); }

void Pattern::each_match(std::string_view text, const std::function<void(TextRange)>& visit) const {
  if (const auto* literal = std::get_if<std::string>(&kind_)) {
    for (size_t at = text.find(*literal); at != std::string_view::npos; at = text.find(*literal, at + literal->size())) {
      visit({at, at + literal->size()});
    }
    return;
  }
  if (const auto* holds = std::get_if<Predicate>(&kind_)) {
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      if ((*holds)(next_code_point(text, pos))) visit({begin, pos});
    }
    return;
  }
  const Regex& regex = std::get<Regex>(kind_);
  size_t from = 0;
  bool any = false;
  size_t last_end = 0;
  while (from <= text.size()) {
    const std::optional<TextRange> match = regex.find(text, from);
    if (!match) return;
    // A look-behind can make a match begin before it was asked for only through \K, which is refused.
    from = match->end;
    if (match->begin == match->end && any && match->end == last_end) {
      if (from >= text.size()) return;
      next_code_point(text, from);
      continue;
    }
    any = true;
    last_end = match->end;
    visit(*match);
  }
}

void Pattern::cut(std::string_view text, std::vector<Stretch>& out) const {
  out.clear();
  size_t previous = 0;
  each_match(text, [&](TextRange match) {
    if (previous < match.begin) out.push_back({previous, match.begin, false});
    out.push_back({match.begin, match.end, true});
    previous = match.end;
  });
  if (previous < text.size() || out.empty()) out.push_back({previous, text.size(), false});
}

}  // namespace bolide
