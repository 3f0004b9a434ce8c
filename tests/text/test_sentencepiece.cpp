#include "catch.h"
#include "core/files.h"
#include "fixtures.h"
#include "text/sentencepiece_tokenizer.h"

using namespace bolide;
using bolide::test::tokenizer;
using Ids = std::vector<int32_t>;

namespace {

std::unique_ptr<Tokenizer> configured(const TokenizerSettings& settings) {
  static const std::string model = read_file(bolide::test::unpacked("tokenizers/synthetic.tar.xz") / "sentencepiece" / "tokenizer.model");
  return parse_sentencepiece(model, "tokenizer.model", settings);
}

Ids ids_of(const Tokenizer& t, const std::vector<std::string>& tokens) {
  Ids out;
  for (const std::string& token : tokens) out.push_back(t.find(token).value_or(-1));
  return out;
}

}  // namespace

TEST_CASE("tokenizer.model agrees with its library on random text") {
  const Tokenizer& t = tokenizer("sentencepiece");
  for (const nlohmann::json& row : bolide::test::oracle_cases("sentencepiece")) {
    const std::string text = row.at("text").get<std::string>();
    INFO(nlohmann::json(text).dump());
    const Ids ids = row.at("ids").get<Ids>();
    CHECK(t.encode(text, {}) == ids);
    CHECK(t.decode(ids, false) == text);
  }
}

TEST_CASE("tokenizer.model: BOS, EOS and vocabulary") {
  const Tokenizer& t = tokenizer("sentencepiece");
  CHECK(t.vocab_size() == 800);
  CHECK(t.token(1) == "<s>");
  CHECK(t.find("</s>") == 2);
  CHECK_FALSE(t.find("no such piece"));
  CHECK_FALSE(t.token(800));
  CHECK(t.is_special(1));
  CHECK_FALSE(t.is_special(t.find("<mask>").value()));
  CHECK(t.encode("", {.add_special = true}) == Ids{1});
  CHECK(t.encode("", {}).empty());
  CHECK(t.description() == "tokenizer.model (sentencepiece, 800 tokens)");
  TokenizerSettings settings;
  settings.add_bos_token = false;
  settings.add_eos_token = true;
  CHECK(configured(settings)->encode("", {.add_special = true}) == Ids{2});
}

TEST_CASE("tokenizer.model: special tokens in the text, with and without the legacy blank") {
  const std::string text = "the<s>the";
  const auto legacy = configured({});
  const std::string blank_the = "\xE2\x96\x81the";
  CHECK(legacy->encode(text, {}) == ids_of(*legacy, {blank_the, "<s>", blank_the}));
  CHECK(legacy->decode(legacy->encode(text, {}), true) == "the the");
  for (const int32_t id : legacy->encode(text, {.parse_special = false})) CHECK_FALSE(legacy->is_special(id));
  TokenizerSettings settings;
  settings.legacy = false;
  const auto modern = configured(settings);
  const Ids ids = modern->encode(text, {});
  CHECK(Ids(ids.begin(), ids.begin() + 2) == ids_of(*modern, {blank_the, "<s>"}));
  CHECK(modern->token(ids[2]).value().starts_with("t"));
  CHECK(modern->decode(ids, false) == "the<s>the");
  settings.add_prefix_space = false;
  const auto bare = configured(settings);
  CHECK(bare->token(bare->encode("the", {})[0]).value().starts_with("t"));
  CHECK(bare->decode(bare->encode(" the", {}), false) == " the");
}

TEST_CASE("tokenizer.model: added tokens of tokenizer_config.json") {
  TokenizerSettings settings;
  settings.added_tokens.push_back({.content = "<|new|>", .id = 805, .special = true});
  settings.bos_token = "<|new|>";
  const auto t = configured(settings);
  CHECK(t->vocab_size() == 806);
  CHECK(t->encode("<|new|>", {.add_special = true}) == Ids{805, 805});
  CHECK(t->decode(Ids{805}, true).empty());
  CHECK_FALSE(t->token(802));
}
