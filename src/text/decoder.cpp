#include "text/decoder.h"

#include <functional>
#include <utility>

#include "text/decode_steps.h"
#include "text/pattern_json.h"
#include "text/unicode.h"

namespace bolide {
namespace {

// Makes a fresh step from a stored function.
class StepFactory : public DecodeStepFactory {
 public:
  explicit StepFactory(std::function<std::unique_ptr<DecodeStep>()> make) : make_(std::move(make)) {}
  std::unique_ptr<DecodeStep> start() const override { return make_(); }

 private:
  std::function<std::unique_ptr<DecodeStep>()> make_;
};

template <class Step, class... Args>
std::shared_ptr<const DecodeStepFactory> factory(Args... args) {
  return std::make_shared<StepFactory>([args...] { return std::make_unique<Step>(args...); });
}

// A string of exactly one character.
std::string character(const JsonNode& node, const std::string& key) {
  std::string text = node.string(key);
  size_t pos = 0;
  if (!text.empty()) next_code_point(text, pos);
  if (text.empty() || pos != text.size()) node.at(key).fail("is not a single character");
  return text;
}

size_t count(const JsonNode& node, const std::string& key) {
  const int64_t n = node.integer(key);
  if (n < 0 || n > 1024) node.at(key).fail("is not a number of characters from 0 to 1024");
  return static_cast<size_t>(n);
}

class ChainSink : public TokenSink {
 public:
  ChainSink(std::vector<std::unique_ptr<DecodeStep>>& steps, size_t index, std::string& out) : steps_(steps), index_(index), out_(out) {}
  void take(std::string_view token) override {
    if (index_ == steps_.size()) {
      out_.append(token);
      return;
    }
    ChainSink next(steps_, index_ + 1, out_);
    steps_[index_]->push(token, next);
  }

 private:
  std::vector<std::unique_ptr<DecodeStep>>& steps_;
  size_t index_;
  std::string& out_;
};

}  // namespace

Decoder::Decoder() { steps_.push_back(factory<JoinStep>()); }

Decoder::Decoder(const JsonNode& node) { add(node); }

Decoder Decoder::sentencepiece(bool strip_front) {
  Decoder out;
  out.steps_.clear();
  const auto pattern = std::make_shared<const Pattern>(Pattern::literal("\xE2\x96\x81"));
  out.steps_.push_back(factory<ReplaceStep>(pattern, std::string(" ")));
  out.steps_.push_back(factory<ByteFallbackStep>());
  out.fused_ = true;
  if (strip_front) out.steps_.push_back(factory<StripFusedStep>(std::string(" "), size_t{1}, size_t{0}));
  return out;
}

void Decoder::add(const JsonNode& node) {
  const std::string type = node.type();
  const auto require_tokens = [&] {
    if (fused_) node.fail(fmt::format("has type '{}' after a decoder that makes one token of all, which bolide does not support", type));
  };
  if (type == "Sequence") {
    for (const JsonNode& step : node.at("decoders").elements()) add(step);
  } else if (type == "ByteLevel") {
    require_tokens();
    steps_.push_back(factory<ByteLevelStep>());
    fused_ = true;
  } else if (type == "ByteFallback") {
    require_tokens();
    steps_.push_back(factory<ByteFallbackStep>());
  } else if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Replace") {
    require_tokens();
    const auto pattern = std::make_shared<const Pattern>(parse_pattern(node.at("pattern")));
    steps_.push_back(factory<ReplaceStep>(pattern, node.string("content")));
  } else if (type == "Metaspace") {
    require_tokens();
    const bool by_flag = !node.has("prepend_scheme") && node.boolean("add_prefix_space", true);
    const bool drops_first = by_flag || (node.has("prepend_scheme") && node.string("prepend_scheme") != "never");
    steps_.push_back(factory<MetaspaceStep>(character(node, "replacement"), drops_first));
  } else if (type == "Strip") {
    const std::string content = character(node, "content");
    const size_t start = count(node, "start"), stop = count(node, "stop");
    steps_.push_back(fused_ ? factory<StripFusedStep>(content, start, stop) : factory<StripStep>(content, start, stop));
  } else {
    node.unsupported_type({"ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip", "Sequence"});
  }
}

DecodeRun Decoder::start() const {
  std::vector<std::unique_ptr<DecodeStep>> steps;
  for (const auto& step : steps_) steps.push_back(step->start());
  return DecodeRun(std::move(steps));
}

void DecodeRun::push(std::string_view token, std::string& out) { ChainSink(steps_, 0, out).take(token); }

void DecodeRun::finish(std::string& out) {
  for (size_t i = 0; i < steps_.size(); ++i) {
    ChainSink next(steps_, i + 1, out);
    steps_[i]->finish(next);
  }
}

}  // namespace bolide
