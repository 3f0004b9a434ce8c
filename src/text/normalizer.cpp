#include "text/normalizer.h"

#include <optional>
#include <vector>

#include "text/byte_level.h"
#include "text/pattern_json.h"
#include "text/unicode.h"

namespace bolide {
namespace {

void check_length(const NormalizedText& text, size_t bytes) {
  if (bytes > text.limit) throw Error(fmt::format("the text grows past {} KiB while it is normalised", text.limit >> 10));
}

class UnicodeForm : public Normalizer {
 public:
  explicit UnicodeForm(NormalizationForm form) : form_(form) {}
  void apply(NormalizedText& text) const override {
    text.text = unicode_normalize(text.text, form_);
    check_length(text, text.text.size());
  }

 private:
  NormalizationForm form_;
};

class Lowercase : public Normalizer {
 public:
  void apply(NormalizedText& text) const override { text.text = unicode_lowercase(text.text); }
};

class StripBlanks : public Normalizer {
 public:
  StripBlanks(bool left, bool right) : left_(left), right_(right) {}
  void apply(NormalizedText& text) const override {
    const std::string_view all = text.text;
    size_t begin = 0, end = all.size();
    for (size_t pos = 0; left_ && pos < end && is_whitespace(next_code_point(all, pos));) begin = pos;
    while (right_ && end > begin) {
      const size_t start = previous_code_point(all, end);
      size_t pos = start;
      if (!is_whitespace(next_code_point(all, pos))) break;
      end = start;
    }
    if (begin > 0) text.front_intact = false;
    text.text = text.text.substr(begin, end - begin);
  }

 private:
  bool left_, right_;
};

class StripAccents : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    std::string out;
    for (size_t pos = 0; pos < text.text.size();) {
      const char32_t c = next_code_point(text.text, pos);
      if (!is_mark(c)) append_code_point(out, c);
    }
    text.text = std::move(out);
  }
};

class Prepend : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(NormalizedText& text) const override {
    check_length(text, text.text.size() + prefix_.size());
    if (!text.text.empty()) text.text.insert(0, prefix_);
  }

 private:
  std::string prefix_;
};

class Replace : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(NormalizedText& text) const override {
    std::string out;
    out.reserve(text.text.size() + text.text.size() / 4);
    size_t previous = 0;
    pattern_.each_match(text.text, [&](TextRange match) {
      out.append(text.text, previous, match.begin - previous);
      out.append(content_);
      previous = match.end;
      check_length(text, out.size());
    });
    out.append(text.text, previous);
    check_length(text, out.size());
    text.text = std::move(out);
  }

 private:
  Pattern pattern_;
  std::string content_;
};

class ByteLevelNormalizer : public Normalizer {
 public:
  void apply(NormalizedText& text) const override {
    std::string out;
    out.reserve(text.text.size() + text.text.size() / 4);
    append_byte_level(text.text, out);
    check_length(text, out.size());
    text.text = std::move(out);
  }
};

class NormalizerSequence : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> steps) : steps_(std::move(steps)) {}
  void apply(NormalizedText& text) const override {
    for (const auto& step : steps_) step->apply(text);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

}  // namespace

std::unique_ptr<Normalizer> parse_normalizer(const JsonNode& node) {
  const std::string type = node.type();
  if (type == "NFC") return std::make_unique<UnicodeForm>(NormalizationForm::nfc);
  if (type == "NFD") return std::make_unique<UnicodeForm>(NormalizationForm::nfd);
  if (type == "NFKC") return std::make_unique<UnicodeForm>(NormalizationForm::nfkc);
  if (type == "NFKD") return std::make_unique<UnicodeForm>(NormalizationForm::nfkd);
  if (type == "Lowercase") return std::make_unique<Lowercase>();
  if (type == "Strip") return std::make_unique<StripBlanks>(node.boolean("strip_left"), node.boolean("strip_right"));
  if (type == "StripAccents") return std::make_unique<StripAccents>();
  if (type == "Prepend") return std::make_unique<Prepend>(node.string("prepend"));
  if (type == "Replace") return std::make_unique<Replace>(parse_pattern(node.at("pattern")), node.string("content"));
  if (type == "ByteLevel") return std::make_unique<ByteLevelNormalizer>();
  if (type == "Sequence") {
    std::vector<std::unique_ptr<Normalizer>> steps;
    for (const JsonNode& step : node.at("normalizers").elements()) steps.push_back(parse_normalizer(step));
    return std::make_unique<NormalizerSequence>(std::move(steps));
  }
  node.unsupported_type(
      {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "StripAccents", "Prepend", "Replace", "ByteLevel", "Sequence"});
}

}  // namespace bolide
