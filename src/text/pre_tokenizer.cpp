#include "text/pre_tokenizer.h"

#include <optional>
#include <utility>

#include "text/byte_level.h"
#include "text/pattern_json.h"
#include "text/split.h"
#include "text/unicode.h"

namespace bolide {
namespace {

// GPT-2's pattern (Radford et al. 2019), which ByteLevel applies where use_regex is true.
constexpr std::string_view kGpt2Pattern = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Rewrites every piece's text: edit(piece view, index, output).
template <class Edit>
void rewrite(PreTokenized& pre, Edit edit) {
  std::string text;
  text.reserve(pre.text.size() + pre.text.size() / 4);
  for (size_t i = 0; i < pre.pieces.size(); ++i) {
    const auto begin = static_cast<uint32_t>(text.size());
    edit(pre.view(pre.pieces[i]), i, text);
    if (text.size() > pre.limit) throw Error(fmt::format("the text grows past {} KiB in the pre-tokenizer", pre.limit >> 10));
    pre.pieces[i] = {begin, static_cast<uint32_t>(text.size())};
  }
  pre.text = std::move(text);
}

// Cuts every piece.
void split_pieces(PreTokenized& pre, const Pattern& pattern, SplitBehavior behavior, bool invert) {
  std::vector<Piece> out;
  out.reserve(pre.pieces.size() + pre.text.size() / 8);
  std::vector<Stretch> stretches;
  for (const Piece piece : pre.pieces) {
    pattern.cut(pre.view(piece), stretches);
    if (invert) {
      for (Stretch& s : stretches) s.is_match = !s.is_match;
    }
    apply_split_behavior(stretches, behavior);
    for (const Stretch& s : stretches) {
      if (s.end > s.begin) out.push_back({piece.begin + static_cast<uint32_t>(s.begin), piece.begin + static_cast<uint32_t>(s.end)});
    }
  }
  pre.pieces = std::move(out);
}

class Split : public PreTokenizer {
 public:
  Split(Pattern pattern, SplitBehavior behavior, bool invert) : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void apply(PreTokenized& pre) const override { split_pieces(pre, pattern_, behavior_, invert_); }

 private:
  Pattern pattern_;
  SplitBehavior behavior_;
  bool invert_;
};

class ByteLevel : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex) : add_prefix_space_(add_prefix_space) {
    if (use_regex) pattern_ = Pattern::regex(kGpt2Pattern);
  }
  void apply(PreTokenized& pre) const override {
    if (add_prefix_space_) {
      rewrite(pre, [](std::string_view piece, size_t, std::string& out) {
        if (!piece.starts_with(' ')) out += ' ';
        out += piece;
      });
    }
    if (pattern_) split_pieces(pre, *pattern_, SplitBehavior::isolated, false);
    rewrite(pre, [](std::string_view piece, size_t, std::string& out) { append_byte_level(piece, out); });
  }

 private:
  bool add_prefix_space_;
  std::optional<Pattern> pattern_;
};

class Metaspace : public PreTokenizer {
 public:
  enum class Prepend { always, first, never };
  Metaspace(std::string replacement, Prepend prepend, bool split)
      : replacement_(std::move(replacement)), prepend_(prepend), split_(split), pattern_(Pattern::literal(replacement_)) {}
  void apply(PreTokenized& pre) const override {
    const bool first_starts_input = pre.starts_input && !pre.pieces.empty() && pre.pieces[0].begin == 0;
    rewrite(pre, [&](std::string_view piece, size_t index, std::string& out) {
      const bool starts = piece.starts_with(replacement_) || piece.starts_with(' ');
      const bool wanted = prepend_ == Prepend::always || (prepend_ == Prepend::first && index == 0 && first_starts_input);
      if (wanted && !starts) out += replacement_;
      for (const char c : piece) {
        if (c == ' ') {
          out += replacement_;
        } else {
          out += c;
        }
      }
    });
    if (split_) split_pieces(pre, pattern_, SplitBehavior::merged_with_next, false);
  }

 private:
  std::string replacement_;
  Prepend prepend_;
  bool split_;
  Pattern pattern_;
};

class PreTokenizerSequence : public PreTokenizer {
 public:
  explicit PreTokenizerSequence(std::vector<std::unique_ptr<PreTokenizer>> steps) : steps_(std::move(steps)) {}
  void apply(PreTokenized& pre) const override {
    for (const auto& step : steps_) step->apply(pre);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

SplitBehavior parse_behavior(const JsonNode& node, const std::string& name) {
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  node.fail(fmt::format("has behavior '{}'. Known: Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous", name));
}

// A string of exactly one character.
std::string parse_character(const JsonNode& node, const std::string& key) {
  std::string text = node.string(key);
  size_t pos = 0;
  if (!text.empty()) next_code_point(text, pos);
  if (text.empty() || pos != text.size()) node.at(key).fail("is not a single character");
  return text;
}

// Files written before tokenizers 0.19 have add_prefix_space alone; later ones have prepend_scheme.
std::unique_ptr<PreTokenizer> parse_metaspace(const JsonNode& node) {
  auto prepend = Metaspace::Prepend::always;
  if (node.has("prepend_scheme")) {
    const std::string scheme = node.string("prepend_scheme");
    if (scheme == "first") {
      prepend = Metaspace::Prepend::first;
    } else if (scheme == "never") {
      prepend = Metaspace::Prepend::never;
    } else if (scheme != "always") {
      node.fail(fmt::format("has prepend_scheme '{}'. Known: always, first, never", scheme));
    }
    if (!node.boolean("add_prefix_space", true) && prepend != Metaspace::Prepend::never) {
      node.fail("has add_prefix_space false, which contradicts its prepend_scheme");
    }
  } else if (!node.boolean("add_prefix_space", true)) {
    prepend = Metaspace::Prepend::never;
  }
  return std::make_unique<Metaspace>(parse_character(node, "replacement"), prepend, node.boolean("split", true));
}

std::unique_ptr<PreTokenizer> parse_sequence(const JsonNode& node) {
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  for (const JsonNode& step : node.at("pretokenizers").elements()) steps.push_back(parse_pre_tokenizer(step));
  return std::make_unique<PreTokenizerSequence>(std::move(steps));
}

// \w+|[^\w\s]+ : a run of word characters, or of characters that are neither those nor blanks.
class WhitespaceWords : public PreTokenizer {
 public:
  void apply(PreTokenized& pre) const override {
    std::vector<Piece> out;
    for (const Piece piece : pre.pieces) {
      const std::string_view text = pre.view(piece);
      int previous = 0;
      for (size_t pos = 0; pos < text.size();) {
        const auto begin = piece.begin + static_cast<uint32_t>(pos);
        const char32_t c = next_code_point(text, pos);
        const auto end = piece.begin + static_cast<uint32_t>(pos);
        const int kind = is_word(c) ? 1 : is_whitespace(c) ? 0 : 2;
        if (kind != 0 && kind == previous) out.back().end = end;
        if (kind != 0 && kind != previous) out.push_back({begin, end});
        previous = kind;
      }
    }
    pre.pieces = std::move(out);
  }
};

}  // namespace

std::unique_ptr<PreTokenizer> parse_pre_tokenizer(const JsonNode& node) {
  const std::string type = node.type();
  const auto split = [](Pattern pattern, SplitBehavior behavior, bool invert = false) {
    return std::make_unique<Split>(std::move(pattern), behavior, invert);
  };
  if (type == "Split") {
    return split(parse_pattern(node.at("pattern")), parse_behavior(node, node.string("behavior")), node.boolean("invert", false));
  }
  if (type == "ByteLevel") return std::make_unique<ByteLevel>(node.boolean("add_prefix_space"), node.boolean("use_regex", true));
  if (type == "Digits") {
    const bool single = node.boolean("individual_digits");
    return split(Pattern::characters(is_numeric), single ? SplitBehavior::isolated : SplitBehavior::contiguous);
  }
  if (type == "Metaspace") return parse_metaspace(node);
  if (type == "Whitespace") return std::make_unique<WhitespaceWords>();
  if (type == "WhitespaceSplit") return split(Pattern::characters(is_whitespace), SplitBehavior::removed);
  if (type == "Punctuation") {
    const std::string behavior = node.has("behavior") ? node.string("behavior") : "Isolated";
    return split(Pattern::characters(is_punctuation), parse_behavior(node, behavior));
  }
  if (type == "CharDelimiterSplit") return split(Pattern::literal(parse_character(node, "delimiter")), SplitBehavior::removed);
  if (type == "Sequence") return parse_sequence(node);
  node.unsupported_type(
      {"Split", "ByteLevel", "Digits", "Metaspace", "Whitespace", "WhitespaceSplit", "Punctuation", "CharDelimiterSplit", "Sequence"});
}

}  // namespace bolide
