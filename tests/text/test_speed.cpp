// Time is linear in practice. The bounds are many times what a release build needs on an idle core, so that only another order of
// growth breaks them, even under sanitizers and beside other work.
#include <algorithm>
#include <ctime>
#include <random>

#include "catch.h"
#include "fixtures.h"
#include "text/chat_template.h"
#include "text/unicode.h"

using namespace bolide;
using bolide::test::tokenizer;

namespace {

constexpr size_t kMegabyte = bolide::test::kSanitized ? 1 << 18 : 1 << 20;
constexpr double kBound = bolide::test::kFastBuild ? 3 : 30;  // seconds of processor time

std::string repeated(const std::string& unit) {
  std::string out;
  while (out.size() + unit.size() <= kMegabyte) out += unit;
  return out;
}

template <class Make>
std::string generated(Make make) {
  std::mt19937 rng(9);
  std::string out;
  while (out.size() + 4 <= kMegabyte) append_code_point(out, make(rng));
  return out;
}

double seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

struct Sample {
  const char* name;
  std::string text;
};

std::vector<Sample> samples() {
  return {
      {"one letter", repeated("a")},
      {"blanks", repeated(" ")},
      {"lines", repeated("\n")},
      {"English", repeated("The quick brown fox doesn't jump over 13 lazy dogs, does it? ")},
      {"letters", generated([](auto& rng) { return static_cast<char32_t>('a' + rng() % 26); })},
      {"emoji", generated([](auto& rng) { return static_cast<char32_t>(0x1F300 + rng() % 0x300); })},
      {"Han", generated([](auto& rng) { return static_cast<char32_t>(0x4E00 + rng() % 0x5000); })},
      {"marks", generated([](auto& rng) { return static_cast<char32_t>(rng() % 2 ? 0x301 : 0x334); })},
      {"special tokens", repeated("<|im_end|></s>")},
  };
}

}  // namespace

TEST_CASE("a megabyte of any text takes seconds at most") {
  for (const Sample& sample : samples()) {
    for (const char* name : {"qwen3", "llama2", "gemma", "sentencepiece"}) {
      const double start = seconds();
      const std::vector<int32_t> ids = tokenizer(name).encode(sample.text, {});
      const double took = seconds() - start;
      INFO(name << ", " << sample.name << ": " << took << " s");
      CHECK(ids.size() > 1000);
      CHECK(took < kBound);
    }
  }
}

TEST_CASE("normalising a megabyte of unordered marks takes seconds at most") {
  const std::string marks = generated([](auto& rng) { return static_cast<char32_t>(rng() % 2 ? 0x301 : 0x334); });
  const double start = seconds();
  const std::string sorted = unicode_normalize(marks, NormalizationForm::nfc);
  CHECK(sorted.size() == marks.size());
  CHECK(seconds() - start < kBound);
}

TEST_CASE("a tokenizer of 150,000 tokens loads in seconds at most") {
  const std::filesystem::path folder = bolide::test::unpacked("tokenizers/qwen3.tar.xz") / "qwen3";
  const double start = seconds();
  CHECK(load_tokenizer(folder)->vocab_size() == 151669);
  CHECK(seconds() - start < kBound);
}

TEST_CASE("a conversation of 200 messages is rendered in milliseconds") {
  const ChatTemplate chat = *ChatTemplate::load(bolide::test::unpacked("tokenizers/qwen3.tar.xz") / "qwen3");
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  for (int i = 0; i < 100; ++i) {
    messages.push_back({{"role", "user"}, {"content", "Question " + std::to_string(i) + ": why does the boat drift along the coast?"}});
    messages.push_back(
        {{"role", "assistant"}, {"content", "<think>\nIt is a boat.\n</think>\n\nBecause nobody has tied it, and the tide goes out."}});
  }
  double best = kBound;
  std::string text;
  for (int i = 0; i < 5; ++i) {
    const double begin = seconds();
    text = chat.render(messages, {{"add_generation_prompt", true}});
    best = std::min(best, seconds() - begin);
  }
  CHECK(text.size() > 200 * 50);
  CHECK(1000 * best < 10 * kBound);  // 5 ms are wanted, and a release build on an idle core needs less
}
