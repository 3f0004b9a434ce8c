// Streaming and decoding.
#include <random>

#include "catch.h"
#include "caught.h"
#include "fixtures.h"
#include "text/decoder.h"
#include "text/utf8.h"

using namespace bolide;
using bolide::test::streamed;
using bolide::test::tokenizer;

namespace {

const std::string kBad = "\xEF\xBF\xBD";
const std::string kSource = "test.json";

Decoder decoder(const char* json) {
  static std::vector<std::unique_ptr<nlohmann::json>> trees;
  trees.push_back(std::make_unique<nlohmann::json>(nlohmann::json::parse(json)));
  return Decoder(JsonNode(*trees.back(), "decoder", kSource));
}

// All pieces, one per token, and the last one from finish.
std::vector<std::string> pieces(const Decoder& d, const std::vector<std::string>& tokens) {
  DecodeRun run = d.start();
  std::vector<std::string> out;
  for (const std::string& t : tokens) run.push(t, out.emplace_back());
  run.finish(out.emplace_back());
  return out;
}

std::string joined(const Decoder& d, const std::vector<std::string>& tokens) {
  std::string out;
  for (const std::string& piece : pieces(d, tokens)) out += piece;
  return out;
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("streams of random ids equal the whole decode") {
  Strings names = bolide::test::synthetic_names();
  names.insert(names.end(), {"qwen3", "llama2", "sentencepiece"});
  for (const std::string& name : names) {
    const Tokenizer& t = tokenizer(name);
    std::mt19937 rng(5);
    std::vector<int32_t> known, bytes;
    for (int32_t id = 0; id < t.vocab_size(); ++id) {
      const std::optional<std::string> token = t.token(id);
      if (token) known.push_back(id);
      if (token && (token->starts_with("<0x") || token->size() <= 2)) bytes.push_back(id);
    }
    for (int round = 0; round < 400; ++round) {
      std::vector<int32_t> ids;
      for (size_t n = rng() % 30; n > 0; --n) ids.push_back(rng() % 2 ? known[rng() % known.size()] : bytes[rng() % bytes.size()]);
      for (const bool skip : {false, true}) {
        if (streamed(t, ids, skip) != t.decode(ids, skip)) FAIL(name << " round " << round);
      }
    }
  }
}

TEST_CASE("a stream holds back at most three bytes, and shows a character as soon as it is whole") {
  const Tokenizer& t = tokenizer("qwen3");
  const std::string text = "a\xF0\x9F\x91\x8D\xE2\x82\xAC\xC3\xA9 \xF0\x9D\x94\x98!";
  const std::vector<int32_t> ids = t.encode(text, {});
  const std::unique_ptr<StreamDecoder> stream = t.stream(false);
  std::string shown;
  std::string all_bytes;
  for (size_t i = 0; i < ids.size(); ++i) {
    shown += stream->push(ids[i]);
    const std::string so_far = t.decode(std::span(ids).first(i + 1), false);
    CHECK(so_far.starts_with(shown));
    std::string repaired = so_far;
    while (repaired.ends_with(kBad)) repaired.erase(repaired.size() - 3);
    CHECK(shown == repaired);
  }
  CHECK(shown == text);
  CHECK(stream->finish().empty());
}

TEST_CASE("ids without a token are errors that name id and vocabulary") {
  const Tokenizer& t = tokenizer("qwen3");
  CHECK(t.vocab_size() == 151669);
  const std::vector<int32_t> past{151669}, negative{-1};
  CHECK(caught([&] { t.decode(past, false); }).text ==
        "token id 151669 has no token: the vocabulary of tokenizer.json (BPE, 151,669 tokens) holds ids from 0 to 151668");
  CHECK(caught([&] { t.decode(negative, true); }).says("token id -1 has no token"));
  CHECK(caught([&] { t.stream(true)->push(151669); }).says("151669"));
}

TEST_CASE("ByteFallback joins byte tokens into characters") {
  const Decoder d = decoder(R"({"type":"ByteFallback"})");
  CHECK(joined(d, {"a", "<0xE2>", "<0x82>", "<0xAC>", "b"}) ==
        "a\xE2\x82\xAC"
        "b");
  CHECK(joined(d, {"<0xe2>", "<0x82>"}) == kBad + kBad);  // one per byte, as the library does
  CHECK(joined(d, {"<0xE2>", "x", "<0x82>"}) == kBad + "x" + kBad);
  CHECK(joined(d, {"<0xED>", "<0xA0>", "<0x80>"}) == kBad + kBad + kBad);
  CHECK(joined(d, {"<0x41>", "<0xFF>", "<0x42>"}) == "A" + kBad + "B");  // the library would drop A and B, which no stream can
  CHECK(joined(d, {"<0xF0>", "<0x9F>", "<0xE2>", "<0x82>", "<0xAC>"}) == kBad + kBad + "\xE2\x82\xAC");
  CHECK(joined(d, {"<0xG1>", "<0x411>", "<0x4>"}) == "<0xG1><0x411><0x4>");
  CHECK(pieces(d, {"<0xF0>", "<0x9F>", "<0x91>", "<0x8D>"}) == Strings{"", "", "", "\xF0\x9F\x91\x8D", ""});
}

TEST_CASE("Strip after Fuse concerns the whole text") {
  const Decoder d = decoder(R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":0}]})");
  CHECK(pieces(d, {"", " ", " a", " b"}) == Strings{"", "", " a", " b", ""});
  CHECK(joined(d, {" a", " b"}) == "a b");
  const Decoder both = decoder(R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"Strip","content":"x","start":2,"stop":2}]})");
  CHECK(joined(both, {"x", "xxa", "x", "bxx", "x"}) == "xaxbx");
  CHECK(joined(both, {"xx", "x"}).empty());
  CHECK(pieces(both, {"ax", "x", "x", "b"}) == Strings{"a", "", "x", "xxb", ""});
}

TEST_CASE("Strip before Fuse concerns every token") {
  const Decoder d = decoder(R"({"type":"Strip","content":" ","start":1,"stop":1})");
  CHECK(joined(d, {" a ", "  b", " ", ""}) == "a b");
}

TEST_CASE("the other decoders") {
  CHECK(joined(decoder(R"({"type":"ByteLevel"})"), {"\xC4\xA0"
                                                    "a",
                                                    "\xC3\xA2\xC4\xA4", "\xC2\xAC", "<\xE2\x82\xAC>"}) == " a\xE2\x82\xAC<\xE2\x82\xAC>");
  CHECK(joined(decoder(R"({"type":"Metaspace","replacement":"_","prepend_scheme":"always"})"), {"__a_b", "_c"}) == "ab c");
  CHECK(joined(decoder(R"({"type":"Metaspace","replacement":"_","prepend_scheme":"never"})"), {"_a", "_c"}) == " a c");
  CHECK(joined(decoder(R"({"type":"Metaspace","replacement":"_","add_prefix_space":false})"), {"_a", "_c"}) == " a c");
  CHECK(joined(decoder(R"({"type":"Replace","pattern":{"Regex":"[ab]+"},"content":"-"})"), {"xaby", "b"}) == "x-y-");
  CHECK(joined(Decoder(), {"a", "b", "c"}) == "a b c");
}

TEST_CASE("decoders that cannot be streamed or are unknown are refused by name") {
  CHECK(caught([] { decoder(R"({"type":"WordPiece"})"); }).text ==
        "test.json: decoder has type 'WordPiece', which bolide does not support. Supported: ByteLevel, Metaspace, Replace, ByteFallback, "
        "Fuse, Strip, Sequence");
  CHECK(caught([] {
          decoder(R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteLevel"}]})");
        }).says("decoder.decoders[1] has type 'ByteLevel' after a decoder that makes one token of all"));
  CHECK(caught([] { decoder(R"({"type":"Strip","content":"ab","start":1,"stop":0})"); }).says("decoder.content is not a single character"));
  CHECK(caught([] { decoder(R"({"type":"Strip","content":" ","start":-1,"stop":0})"); }).says("decoder.start"));
}
