#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace bolide {
namespace {

bool ends_in_word(std::string_view text) {
  if (text.empty()) return false;
  size_t pos = previous_code_point(text, text.size());
  return is_word(next_code_point(text, pos));
}

bool starts_with_word(std::string_view text) {
  size_t pos = 0;
  return !text.empty() && is_word(next_code_point(text, pos));
}

// Where the blanks that end at `end` begin, not before `limit`.
size_t blanks_begin(std::string_view text, size_t end, size_t limit) {
  while (end > limit) {
    const size_t start = previous_code_point(text, end);
    size_t pos = start;
    if (!is_whitespace(next_code_point(text, pos))) break;
    end = start;
  }
  return std::max(end, limit);
}

size_t blanks_end(std::string_view text, size_t pos) {
  while (pos < text.size()) {
    size_t next = pos;
    if (!is_whitespace(next_code_point(text, next))) break;
    pos = next;
  }
  return pos;
}

}  // namespace

AddedToken parse_added_token(const JsonNode& node, int32_t id) {
  AddedToken t;
  t.content = node.string("content");
  t.id = id;
  t.special = node.boolean("special", false);
  t.single_word = node.boolean("single_word", false);
  t.lstrip = node.boolean("lstrip", false);
  t.rstrip = node.boolean("rstrip", false);
  t.normalized = node.boolean("normalized", !t.special);
  return t;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer* normalizer) {
  std::unordered_map<std::string_view, size_t> last;
  for (size_t i = 0; i < tokens.size(); ++i) last[tokens[i].content] = i;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (last[tokens[i].content] == i && !tokens[i].content.empty()) tokens_.push_back(tokens[i]);
  }
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& t = tokens_[i];
    by_id_[t.id] = i;
    vocabulary_.add(t.content, t.id);
    Finder& finder = t.normalized ? normalized_ : raw_;
    NormalizedText content{t.content};
    if (t.normalized && normalizer) normalizer->apply(content);
    finder.automaton.add(content.text);
    finder.tokens.push_back(i);
  }
  raw_.automaton.build();
  normalized_.automaton.build();
}

bool AddedTokens::is_special(int32_t id) const {
  const auto found = by_id_.find(id);
  return found != by_id_.end() && tokens_[found->second].special;
}

std::vector<AddedTokenName> AddedTokens::names() const {
  std::vector<AddedTokenName> out;
  for (const AddedToken& token : tokens_) out.push_back({token.content, token.special});
  return out;
}

bool AddedTokens::has_normalized(std::string_view text) const {
  return std::any_of(normalized_.tokens.begin(), normalized_.tokens.end(),
                     [&](size_t index) { return text.find(tokens_[index].content) != std::string_view::npos; });
}

std::vector<AddedTokens::Segment> AddedTokens::Finder::cut(const AddedTokens& all, std::string_view text, bool parse_special,
                                                           std::span<const ByteRange> plain) const {
  std::vector<Segment> out;
  if (text.empty()) return out;
  size_t done = 0;          // text before it is in `out`
  size_t blanks_until = 0;  // a run of blanks is known to reach to here, so that many rstrip tokens in one run stay linear
  size_t from = 0;
  while (const std::optional<AhoCorasick::Match> match = automaton.find(text, from)) {
    from = match->end;
    const AddedToken& token = all.tokens_[tokens[match->pattern]];
    if (token.special && !parse_special) continue;
    while (!plain.empty() && plain.front().end <= match->begin) plain = plain.subspan(1);
    if (!plain.empty() && plain.front().begin < match->end) continue;
    size_t begin = match->begin, end = match->end;
    if (token.single_word && (ends_in_word(text.substr(0, begin)) || starts_with_word(text.substr(end)))) continue;
    if (token.lstrip) begin = blanks_begin(text, begin, std::min(done, begin));
    if (token.rstrip) {
      blanks_until = end < blanks_until ? blanks_until : blanks_end(text, end);
      end = blanks_until;
    }
    if (done < begin) out.push_back({done, begin, -1});
    out.push_back({begin, end, token.id});
    done = end;
  }
  if (done < text.size()) out.push_back({done, text.size(), -1});
  return out;
}

}  // namespace bolide
