// What tokenizer.json may say, and the messages where it says something else.
#include <fstream>

#include "catch.h"
#include "caught.h"
#include "fixtures.h"
#include "text/tokenizer_json.h"

using namespace bolide;
using bolide::test::tokenizer;
using Json = nlohmann::json;
using Ids = std::vector<int32_t>;

namespace {

// Letters a to f, a few merges.
Json base() {
  return Json::parse(R"({
    "added_tokens": [{"id": 20, "content": "<s>", "special": true, "normalized": false},
                     {"id": 21, "content": "<think>", "special": false, "normalized": false}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4, "f": 5, "ab": 6, "abc": 7, "de": 8, " ": 9},
              "merges": ["a b", ["ab", "c"], "d e"]}
  })");
}

std::unique_ptr<Tokenizer> parse(const Json& tree) { return parse_tokenizer_json(tree.dump(), "tokenizer.json", {}); }

Caught refusal(const Json& tree) {
  return caught([&] { parse(tree); });
}

// base() with one value replaced.
Json with(const char* pointer, const char* value) {
  Json tree = base();
  tree[Json::json_pointer(pointer)] = Json::parse(value);
  return tree;
}

}  // namespace

TEST_CASE("the model's defaults") {
  const auto t = parse(base());
  CHECK(t->encode("abcdef", {}) == Ids{7, 8, 5});
  CHECK(t->encode("axb", {}) == Ids{6});  // unknown characters vanish without unk_token, and their neighbours meet
  CHECK(t->vocab_size() == 22);
  CHECK(t->token(7) == "abc");
  CHECK_FALSE(t->token(10));
  CHECK(t->find("de") == 8);
  CHECK(t->find("<think>") == 21);
  CHECK_FALSE(t->find("zz"));
  CHECK(t->is_special(20));
  CHECK_FALSE(t->is_special(21));
  CHECK(t->description() == "tokenizer.json (BPE, 22 tokens)");
  Json untyped = base();
  untyped["model"].erase("type");
  CHECK(parse(untyped)->encode("abc", {}) == Ids{7});
}

TEST_CASE("special tokens in the text are parsed unless told otherwise") {
  const auto t = parse(base());
  CHECK(t->encode("a<s>b<think>", {}) == Ids{0, 20, 1, 21});
  CHECK(t->encode("a<s>b<think>", {.parse_special = false}) == Ids{6, 21});
  const Tokenizer& qwen = tokenizer("qwen3");
  const std::string text = "<|im_start|>user";
  CHECK(qwen.encode(text, {}).size() == 2);
  const Ids plain = qwen.encode(text, {.parse_special = false});
  CHECK(plain.size() > 2);
  for (const int32_t id : plain) CHECK_FALSE(qwen.is_special(id));
  CHECK(qwen.decode(plain, true) == text);
}

TEST_CASE("unknown characters") {
  Json tree = base();
  tree["model"]["unk_token"] = "f";
  CHECK(parse(tree)->encode("axyb", {}) == Ids{0, 5, 5, 1});
  tree["model"]["fuse_unk"] = true;
  CHECK(parse(tree)->encode("axyb", {}) == Ids{0, 5, 1});
  tree["model"]["unk_token"] = "<unk>";
  const auto t = parse(tree);
  CHECK(t->encode("ab", {}) == Ids{6});
  CHECK(caught([&] { t->encode("x", {}); }).says("unk_token '<unk>'"));
}

TEST_CASE("ignore_merges takes a whole word from the vocabulary") {
  Json tree = base();
  tree["model"]["vocab"]["def"] = 10;
  CHECK(parse(tree)->encode("def", {}) == Ids{8, 5});
  tree["model"]["ignore_merges"] = true;
  CHECK(parse(tree)->encode("def", {}) == Ids{10});
}

TEST_CASE("post-processors put ids around the text") {
  Json tree = base();
  tree["post_processor"] = Json::parse(R"({"type": "TemplateProcessing", "pair": [],
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
               {"SpecialToken": {"id": "x", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [20], "tokens": ["<s>"]}, "x": {"id": "x", "ids": [5, 4], "tokens": ["f", "e"]}}})");
  const auto t = parse(tree);
  CHECK(t->encode("ab", {.add_special = true}) == Ids{20, 6, 5, 4});
  CHECK(t->encode("ab", {}) == Ids{6});
  CHECK(t->encode("", {.add_special = true}) == Ids{20, 5, 4});
  tree["post_processor"]["special_tokens"]["x"]["ids"][0] = 15;
  CHECK(refusal(tree).says("post_processor adds the id 15, which has no token"));
  tree["post_processor"]["special_tokens"].erase("x");
  CHECK(refusal(tree).says("post_processor.special_tokens has no 'x'"));
}

TEST_CASE("nodes that are not supported are refused by file, path and type") {
  CHECK(
      refusal(with("/pre_tokenizer", R"({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, {"type": "Foo"}]})")).text ==
      "tokenizer.json: pre_tokenizer.pretokenizers[1] has type 'Foo', which bolide does not support. Supported: Split, ByteLevel, Digits, "
      "Metaspace, Whitespace, WhitespaceSplit, Punctuation, CharDelimiterSplit, Sequence");
  CHECK(refusal(with("/normalizer", R"({"type": "Sequence", "normalizers": [{"type": "Precompiled", "precompiled_charsmap": ""}]})"))
            .says("normalizer.normalizers[0] has type 'Precompiled'"));
  CHECK(refusal(with("/post_processor", R"({"type": "Foo"})")).says("post_processor has type 'Foo'"));
  CHECK(refusal(with("/decoder", R"({"type": "BPEDecoder"})")).says("decoder has type 'BPEDecoder'"));
  CHECK(refusal(with("/model", R"({"type": "Unigram", "vocab": [["a", -1.5]]})"))
            .says("model has type 'Unigram', which bolide does not support. Supported: BPE"));
  CHECK(refusal(with("/model", R"({"type": "WordPiece", "vocab": {"a": 1}})")).says("'WordPiece'"));
  CHECK(refusal(with("/model/dropout", "0.1")).says("model.dropout"));
  CHECK(refusal(with("/model/continuing_subword_prefix", R"("##")")).says("model.continuing_subword_prefix is not empty"));
  CHECK(refusal(with("/model/end_of_word_suffix", R"("</w>")")).says("model.end_of_word_suffix"));
  CHECK(refusal(with("/pre_tokenizer", R"({"type": "Split", "pattern": {"Regex": "[a&&b]"}, "behavior": "Isolated"})"))
            .says("pre_tokenizer.pattern cannot be used: class intersection && at offset 2"));
  CHECK(refusal(with("/pre_tokenizer", R"({"type": "Split", "pattern": {"String": "a"}, "behavior": "Sideways"})"))
            .says("behavior 'Sideways'"));
  CHECK(
      refusal(with("/pre_tokenizer", R"({"type": "Metaspace", "replacement": "_", "add_prefix_space": false, "prepend_scheme": "first"})"))
          .says("contradicts"));
  for (const Caught& c : {refusal(with("/decoder", R"({"type": "Foo"})")), refusal(with("/model", "3"))}) CHECK(c.code == ExitCode::model);
}

TEST_CASE("harmless values are accepted") {
  CHECK(refusal(with("/model/dropout", "0.0")).text.empty());
  CHECK(refusal(with("/model/continuing_subword_prefix", R"("")")).text.empty());
  CHECK(refusal(with("/truncation", R"({"max_length": 1})")).text.empty());
}

TEST_CASE("two tokens with one id: encoding gives the id, the id gives one of them") {
  Json tree = base();
  tree["model"]["vocab"]["f"] = 4;
  const auto t = parse(tree);
  CHECK(t->encode("fe", {}) == Ids{4, 4});
  CHECK(t->token(4).has_value());
}

TEST_CASE("malformed files are model errors that say where") {
  const auto message = [](const std::string& text) { return caught([&] { parse_tokenizer_json(text, "t.json", {}); }); };
  CHECK(message("").says("t.json: is not valid JSON: unexpected input at byte"));
  CHECK(message("{\"model\": {\"vocab\": {\"a\": 0").says("not valid JSON"));
  CHECK(message("{\"a\": \"\xFF\"}").says("not valid JSON"));
  CHECK(message("[]").says("the top level is not a JSON object"));
  CHECK(message("{}").says("has no 'model'"));
  CHECK(message(std::string(100000, '[')).says("nests deeper than 64 levels"));
  CHECK(refusal(with("/model/vocab", "[]")).says("has no 'vocab'"));
  CHECK(refusal(with("/model/vocab/a", "-1")).says("model.vocab: the token 'a' has an id"));
  CHECK(refusal(with("/model/vocab/a", "4194304")).says("'a'"));
  CHECK(refusal(with("/model/vocab/a", "1.5")).says("'a'"));
  CHECK(refusal(with("/model/vocab/a", "[1]")).says("'a'"));
  CHECK(refusal(with("/model/merges/0", R"("a b c")")).says("model.merges[0] is neither"));
  CHECK(refusal(with("/model/merges/1", R"(["ab"])")).says("model.merges[1] is neither"));
  CHECK(refusal(with("/model/merges/1", R"(["ab", "c", "d"])")).says("model.merges[1]"));
  CHECK(refusal(with("/model/merges/1", R"(["ab", 3])")).says("model.merges[1]"));
  CHECK(refusal(with("/model/merges/1", R"(["a", "c"])")).text ==
        "tokenizer.json: model.merges[1] ('a' and 'c') needs the token 'ac', which model.vocab does not have");
  CHECK(refusal(with("/added_tokens", "{}")).says("added_tokens is not a JSON array"));
  CHECK(refusal(with("/added_tokens/0/id", "\"1\"")).says("added_tokens[0].id is not a token id"));
  CHECK(refusal(with("/added_tokens/1/special", "1")).says("added_tokens[1].special is neither true nor false"));
  CHECK(refusal(with("/normalizer", R"({"type": 3})")).says("normalizer.type is not a string"));
  CHECK(refusal(with("/normalizer", R"({"type": "Prepend"})")).says("normalizer has no 'prepend'"));
}

TEST_CASE("text that is not UTF-8 is an error with its offset") {
  CHECK(caught([] { tokenizer("qwen3").encode("abc\xFFz", {}); }).text == "the text is not valid UTF-8 at byte 3");
  CHECK(caught([] { tokenizer("sentencepiece").encode("abc\xE2\x82", {}); }).text == "the text is not valid UTF-8 at byte 3");
}

TEST_CASE("a file that blows the text up ends in an error") {
  Json tree = base();
  Json steps = Json::array();
  for (int i = 0; i < 40; ++i) steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aaaaaaaaaaaaaaaa"}});
  tree["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
  CHECK(caught([&] { parse(tree)->encode("a", {}); }).says("grows past"));
  tree["normalizer"] = nullptr;
  const Json step = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  tree["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", Json::array()}};
  for (int i = 0; i < 60; ++i) tree["pre_tokenizer"]["pretokenizers"].push_back(step);
  CHECK(caught([&] { parse(tree)->encode("\xC3\xA9", {}); }).says("grows past"));
}

TEST_CASE("a folder without tokenizer files gives no tokenizer, a broken one an error") {
  const std::filesystem::path folder = bolide::test::unpacked("tokenizers/synthetic.tar.xz") / "made";
  std::filesystem::create_directories(folder);
  CHECK(load_tokenizer(folder) == nullptr);
  std::ofstream(folder / "tokenizer.model") << "not a model";
  CHECK(caught([&] { load_tokenizer(folder); }).says("tokenizer.model: not a usable sentencepiece model"));
  std::ofstream(folder / "tokenizer.json") << base().dump();
  CHECK(load_tokenizer(folder)->find("abc") == 7);
  std::ofstream(folder / "tokenizer_config.json") << R"({"eos_token": {"content": "</s>"}, "bos_token": null,
    "added_tokens_decoder": {"20": {"content": "<s>", "special": false}, "30": {"content": "<new>", "special": true}}})";
  const auto t = load_tokenizer(folder);
  CHECK(t->is_special(20));  // tokenizer.json counts
  CHECK(t->encode("a<new>", {}) == Ids{0, 30});
  CHECK(load_tokenizer_config(folder).eos_token == "</s>");
  CHECK_FALSE(load_tokenizer_config(folder).bos_token);
  std::ofstream(folder / "tokenizer_config.json") << R"({"added_tokens_decoder": {"x": {"content": "a"}}})";
  CHECK(caught([&] { load_tokenizer(folder); }).says("added_tokens_decoder.x has a name that is no token id"));
  std::ofstream(folder / "tokenizer_config.json") << "{";
  CHECK(caught([&] { load_tokenizer_config(folder); }).code == ExitCode::model);
  std::filesystem::remove_all(folder);
  CHECK_FALSE(load_tokenizer_config(bolide::test::unpacked("tokenizers/synthetic.tar.xz")).eos_token);
}

TEST_CASE("tokenizer_config.json of published checkpoints") {
  const TokenizerConfig qwen = load_tokenizer_config(bolide::test::unpacked("tokenizers/qwen3.tar.xz") / "qwen3");
  CHECK(qwen.eos_token == "<|im_end|>");
  CHECK_FALSE(qwen.bos_token);
  const TokenizerConfig llama = load_tokenizer_config(bolide::test::unpacked("tokenizers/llama2.tar.xz") / "llama2");
  CHECK(llama.eos_token == "</s>");
  CHECK(llama.bos_token == "<s>");
}
