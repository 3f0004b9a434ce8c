// The room's own data structures against plain ones.
#include <map>
#include <random>

#include "catch.h"
#include "text/aho_corasick.h"
#include "text/bpe.h"
#include "text/merge_table.h"
#include "text/vocabulary.h"

using namespace bolide;

namespace {

std::string random_word(std::mt19937& rng, size_t least, size_t most, int letters) {
  std::string out;
  for (size_t n = least + rng() % (most - least + 1); n > 0; --n) out += static_cast<char>('a' + rng() % static_cast<unsigned>(letters));
  return out;
}

// Byte-pair encoding by the book: the lowest rank of the word, leftmost first, again and again.
std::vector<int32_t> plain_bpe(const std::string& word, const std::map<std::pair<int32_t, int32_t>, std::pair<size_t, int32_t>>& merges,
                               const Vocabulary& vocabulary) {
  std::vector<int32_t> ids;
  for (const char c : word) ids.push_back(vocabulary.find(std::string(1, c)));
  while (true) {
    size_t best_rank = SIZE_MAX, best = 0;
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      const auto found = merges.find({ids[i], ids[i + 1]});
      if (found != merges.end() && found->second.first < best_rank) {
        best_rank = found->second.first;
        best = i;
      }
    }
    if (best_rank == SIZE_MAX) return ids;
    ids[best] = merges.at({ids[best], ids[best + 1]}).second;
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(best) + 1);
  }
}

}  // namespace

TEST_CASE("the latest meaning of a token and of an id counts") {
  std::mt19937 rng(1);
  Vocabulary vocabulary;
  std::map<std::string, int32_t> ids;
  std::map<int32_t, std::string> tokens;
  CHECK(vocabulary.find("a") == -1);
  for (int i = 0; i < 20000; ++i) {
    const std::string token = random_word(rng, 0, 4, 26);
    const auto id = static_cast<int32_t>(rng() % 30000);
    vocabulary.add(token, id);
    ids[token] = id;
    tokens[id] = token;
  }
  CHECK(vocabulary.size() == ids.size());
  size_t wrong = 0;
  for (const auto& [token, id] : ids) wrong += vocabulary.find(token) != id;
  for (int32_t id = -1; id < 30001; ++id) {
    const auto found = tokens.find(id);
    const std::optional<std::string_view> got = vocabulary.token(id);
    wrong += got.has_value() != (found != tokens.end()) || (got && *got != found->second);
  }
  CHECK(wrong == 0);
  CHECK(vocabulary.find("not there") == -1);
}

TEST_CASE("Vocabulary keeps distinct tokens and ids exactly") {
  Vocabulary vocabulary;
  for (int32_t id = 0; id < 50000; ++id) vocabulary.add("token " + std::to_string(id), id);
  CHECK(vocabulary.id_limit() == 50000);
  size_t wrong = 0;
  for (int32_t id = 0; id < 50000; ++id) {
    const std::string token = "token " + std::to_string(id);
    wrong += vocabulary.find(token) != id || vocabulary.token(id) != token;
  }
  CHECK(wrong == 0);
  vocabulary.add("token 7", 60000);
  CHECK(vocabulary.find("token 7") == 60000);
  CHECK(vocabulary.token(7) == "token 7");
  CHECK(vocabulary.token(60000) == "token 7");
  CHECK_FALSE(vocabulary.token(55555));
}

TEST_CASE("MergeTable behaves like a map") {
  std::mt19937 rng(2);
  MergeTable table(5000);
  std::map<std::pair<int32_t, int32_t>, uint32_t> plain;
  for (uint32_t rank = 0; rank < 5000; ++rank) {
    const auto left = static_cast<int32_t>(rng() % 100), right = static_cast<int32_t>(rng() % 100);
    table.add(left, right, rank);
    plain[{left, right}] = rank;
  }
  size_t wrong = 0;
  for (int32_t left = 0; left < 101; ++left) {
    for (int32_t right = 0; right < 101; ++right) {
      const auto found = plain.find({left, right});
      wrong += table.rank(left, right) != (found == plain.end() ? MergeTable::kNone : found->second);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("AhoCorasick finds the leftmost-longest matches") {
  std::mt19937 rng(3);
  for (int round = 0; round < 5000; ++round) {
    AhoCorasick automaton;
    std::vector<std::string> patterns;
    for (size_t n = 1 + rng() % 6; n > 0; --n) {
      patterns.push_back(random_word(rng, 0, 5, 2));
      automaton.add(patterns.back());
    }
    automaton.build();
    const std::string text = random_word(rng, 0, 30, 2);
    for (size_t from = 0; from <= text.size();) {
      std::optional<AhoCorasick::Match> want;
      for (size_t at = from; at < text.size() && !want; ++at) {
        for (size_t p = 0; p < patterns.size(); ++p) {
          if (patterns[p].empty() || text.compare(at, patterns[p].size(), patterns[p]) != 0) continue;
          if (!want || at + patterns[p].size() > want->end) want = {at, at + patterns[p].size(), static_cast<uint32_t>(p)};
        }
      }
      const std::optional<AhoCorasick::Match> got = automaton.find(text, from);
      REQUIRE(got.has_value() == want.has_value());
      if (!want) break;
      if (got->begin != want->begin || got->end != want->end || got->pattern != want->pattern) FAIL("round " << round << " text " << text);
      from = want->end;
    }
  }
}

TEST_CASE("short words, long words and cut words follow the same merges") {
  std::mt19937 rng(4);
  for (int round = 0; round < 60; ++round) {
    const int letters = 2 + round % 4;
    Vocabulary vocabulary;
    std::vector<std::string> tokens;
    for (int i = 0; i < letters; ++i) tokens.push_back(std::string(1, static_cast<char>('a' + i)));
    for (size_t i = 0; i < tokens.size(); ++i) vocabulary.add(tokens[i], static_cast<int32_t>(i));
    MergeList list;
    std::map<std::pair<int32_t, int32_t>, std::pair<size_t, int32_t>> plain;
    for (int m = 0; m < 40; ++m) {
      const std::string left = tokens[rng() % tokens.size()], right = tokens[rng() % tokens.size()];
      if (left.size() + right.size() > 12) continue;
      if (vocabulary.find(left + right) < 0) {
        vocabulary.add(left + right, static_cast<int32_t>(tokens.size()));
        tokens.push_back(left + right);
      }
      plain[{vocabulary.find(left), vocabulary.find(right)}] = {list.size(), vocabulary.find(left + right)};
      list.add(left, right);
    }
    const BpeModel model(vocabulary, list, {}, "test");
    BpeEncoder encoder(model, 4000);
    for (int word = 0; word < 40; ++word) {
      const std::string text = random_word(rng, 1, word < 30 ? 60 : 400, letters);
      std::vector<int32_t> got;
      encoder.encode(text, got);
      if (got != plain_bpe(text, plain, vocabulary)) FAIL("round " << round << " text " << text);
    }
  }
}
