#include <map>
#include <random>

#include "catch.h"
#include "core/error.h"
#include "kv/chunk_pool.h"
#include "kv/prefix_index.h"

using namespace bolide;

namespace {

using Tokens = std::vector<int32_t>;

}  // namespace

TEST_CASE("a chunk is found by its tokens and everything before them") {
  PrefixIndex index(8);
  const Tokens a = {1, 2}, b = {3, 4};
  const PrefixId first = index.insert(kEmptyPrefix, a, 5);
  const PrefixId second = index.insert(first, b, 2);
  REQUIRE(index.find(kEmptyPrefix, a).has_value());
  CHECK(index.find(kEmptyPrefix, a)->chunk == 5);
  CHECK(index.find(kEmptyPrefix, a)->prefix == first);
  CHECK(index.find(first, b)->chunk == 2);
  CHECK(index.find(first, b)->prefix == second);
  CHECK_FALSE(index.find(kEmptyPrefix, b).has_value());  // the same tokens at another place
  CHECK_FALSE(index.find(first, a).has_value());
  CHECK_FALSE(index.find(second, b).has_value());
  CHECK_THROWS_AS(index.insert(second, a, 5), Error);
  CHECK(index.size() == 2);
}

TEST_CASE("what hung on a prefix that is gone is not found under its successor") {
  PrefixIndex index(4);
  const Tokens a = {1}, b = {2};
  const PrefixId first = index.insert(kEmptyPrefix, a, 0);
  index.insert(first, b, 1);
  index.erase(0);
  CHECK_FALSE(index.find(kEmptyPrefix, a).has_value());
  CHECK_THROWS_AS(index.erase(0), Error);
  const PrefixId again = index.insert(kEmptyPrefix, a, 2);
  CHECK(again != first);
  CHECK_FALSE(index.find(again, b).has_value());
  index.erase(1);
  CHECK(index.size() == 1);
}

TEST_CASE("random traffic agrees with a map of whole prefixes") {
  std::mt19937 random(3);
  PrefixIndex index(40);
  std::map<Tokens, std::pair<ChunkId, PrefixId>> known;  // all tokens up to a chunk's end
  for (int i = 0; i < 20000; ++i) {
    Tokens prefix;
    PrefixId before = kEmptyPrefix;
    bool there = true;
    for (unsigned depth = 1 + random() % 4; depth > 0 && there; --depth) {
      const Tokens chunk = {static_cast<int32_t>(random() % 3), static_cast<int32_t>(random() % 2)};
      prefix.insert(prefix.end(), chunk.begin(), chunk.end());
      const auto expected = known.find(prefix);
      const auto found = index.find(before, chunk);
      REQUIRE(found.has_value() == (expected != known.end()));
      if (found) {
        REQUIRE(std::pair(found->chunk, found->prefix) == expected->second);
        before = found->prefix;
        continue;
      }
      there = false;
      const auto id = static_cast<ChunkId>(random() % 40);
      if (!index.contains(id)) known[prefix] = {id, index.insert(before, chunk, id)};
    }
    if (const auto id = static_cast<ChunkId>(random() % 40); random() % 3 == 0 && index.contains(id)) {
      index.erase(id);
      // With a prefix, all that continues it is out of reach.
      const auto gone = std::find_if(known.begin(), known.end(), [&](const auto& item) { return item.second.first == id; });
      if (gone != known.end()) {
        const Tokens root = gone->first;
        std::erase_if(known, [&](const auto& item) {
          return item.first.size() >= root.size() && std::equal(root.begin(), root.end(), item.first.begin());
        });
      }
    }
  }
}

TEST_CASE("the pool gives up the least recently used chunk, ends of prefixes first") {
  ChunkPool pool(4, 4);
  const Tokens tokens[3] = {{1}, {2}, {3}};
  std::vector<ChunkId> held;
  PrefixId prefix = kEmptyPrefix;
  for (const Tokens& t : tokens) {
    held.push_back(pool.take().value());
    prefix = pool.publish(prefix, t, held.back());
  }
  pool.give_back(held);
  CHECK(pool.cached() == 3);
  CHECK(pool.available() == 4);
  pool.check();
  const ChunkId one = pool.take().value();  // the free one
  CHECK(pool.cached() == 3);
  const ChunkId two = pool.take().value();  // the end of the prefix
  CHECK(two == held[2]);
  CHECK(pool.cached() == 2);
  const auto found = pool.find(kEmptyPrefix, tokens[0]);
  REQUIRE(found.has_value());
  CHECK(pool.find(found->prefix, tokens[1]).has_value());
  pool.share(found->chunk);
  CHECK(pool.take() == held[1]);
  CHECK_FALSE(pool.take().has_value());
  pool.check();
  pool.give_back(found->chunk);
  CHECK(pool.available() == 1);
  pool.give_back(one);
  pool.give_back(two);
  pool.check();
}

TEST_CASE("no more chunks are cached than allowed") {
  ChunkPool pool(8, 2);
  std::vector<ChunkId> held;
  for (int32_t i = 0; i < 6; ++i) {
    held.push_back(pool.take().value());
    pool.publish(kEmptyPrefix, Tokens{i}, held.back());
  }
  pool.give_back(held);
  CHECK(pool.cached() == 2);
  CHECK(pool.available() == 8);
  CHECK(pool.find(kEmptyPrefix, Tokens{0}).has_value());  // given back last
  CHECK(pool.find(kEmptyPrefix, Tokens{1}).has_value());
  CHECK_FALSE(pool.find(kEmptyPrefix, Tokens{5}).has_value());
  pool.check();
}

TEST_CASE("a part is the chunk with the longest common beginning") {
  PrefixIndex index(8);
  const auto all = [](ChunkId) { return true; };
  const Tokens full = {1, 2, 3, 4}, other = {1, 2, 9, 9}, part = {1, 2, 3}, longer = {1, 2, 3, 7};
  const PrefixId prefix = index.insert(kEmptyPrefix, full, 0);
  index.insert(kEmptyPrefix, other, 1);
  index.insert_part(prefix, part, 2);
  const auto found = [&](PrefixId before, const Tokens& tokens) { return index.find_part(before, tokens, all); };
  REQUIRE(found(kEmptyPrefix, longer));
  CHECK(found(kEmptyPrefix, longer)->chunk == 0);
  CHECK(found(kEmptyPrefix, longer)->tokens == 3);
  CHECK_FALSE(found(kEmptyPrefix, longer)->whole);
  CHECK(found(kEmptyPrefix, {1, 2, 9})->chunk == 1);
  CHECK_FALSE(found(kEmptyPrefix, {2, 2}));
  CHECK(found(prefix, longer)->chunk == 2);
  CHECK(found(prefix, longer)->whole);
  CHECK_FALSE(index.find(prefix, part));  // it is no full chunk
  // A part grows, becomes full, and cannot be a part again before it is given up.
  index.insert_part(prefix, longer, 2);
  CHECK(found(prefix, full)->tokens == 3);
  CHECK(found(prefix, longer)->tokens == 4);
  index.insert(prefix, longer, 2);
  CHECK(index.find(prefix, longer));
  CHECK_THROWS_AS(index.insert_part(prefix, part, 2), Error);
  index.check();
  // What may not be used is passed over, for what is less like it.
  const auto not_0 = [](ChunkId chunk) { return chunk != 0; };
  CHECK(index.find_part(kEmptyPrefix, longer, not_0)->chunk == 1);
  CHECK(index.find_part(kEmptyPrefix, longer, not_0)->tokens == 2);
  index.erase(2);
  CHECK_FALSE(found(prefix, longer));
  CHECK(index.size() == 2);
  index.check();
}

TEST_CASE("random parts agree with a search through all of them") {
  std::mt19937 random(11);
  constexpr int kChunks = 30;
  PrefixIndex index(kChunks);
  std::map<ChunkId, std::pair<PrefixId, Tokens>> known;
  const auto any_tokens = [&](size_t most) {
    Tokens tokens(1 + random() % most);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random() % 3);
    return tokens;
  };
  for (int i = 0; i < 20000; ++i) {
    const auto chunk = static_cast<ChunkId>(random() % kChunks);
    const PrefixId before = random() % 3;
    if (random() % 3 == 0) {
      if (index.contains(chunk)) index.erase(chunk);
      known.erase(chunk);
    } else {
      const Tokens tokens = any_tokens(6);
      index.insert_part(before, tokens, chunk);
      known[chunk] = {before, tokens};
    }
    const Tokens wanted = any_tokens(8);
    const auto refused = static_cast<ChunkId>(random() % kChunks);
    size_t most = 0;
    for (const auto& [id, entry] : known) {
      if (entry.first != before || id % 4 == refused % 4) continue;
      size_t common = 0;
      while (common < wanted.size() && common < entry.second.size() && wanted[common] == entry.second[common]) ++common;
      most = std::max(most, common);
    }
    const auto found = index.find_part(before, wanted, [&](ChunkId id) { return id % 4 != refused % 4; });
    REQUIRE(found.has_value() == (most > 0));
    if (!found) continue;
    REQUIRE(static_cast<size_t>(found->tokens) == most);
    REQUIRE(found->chunk % 4 != refused % 4);
    const Tokens& held = known.at(found->chunk).second;
    REQUIRE(std::equal(wanted.begin(), wanted.begin() + found->tokens, held.begin()));
    REQUIRE(found->whole == (held.size() == most));
  }
  index.check();
}

TEST_CASE("the pool keeps a part like a full chunk, and forgets what is taken back") {
  ChunkPool pool(3, 3);
  const auto all = [](ChunkId) { return true; };
  const ChunkId chunk = pool.take().value();
  pool.publish_part(kEmptyPrefix, Tokens{1, 2}, chunk);
  pool.publish_part(kEmptyPrefix, Tokens{1, 2, 3}, chunk);
  pool.check();
  pool.give_back(chunk);
  CHECK(pool.cached() == 1);
  CHECK(pool.find_part(kEmptyPrefix, Tokens{1, 2, 3, 4}, all)->tokens == 3);
  pool.check();
  pool.share(chunk);
  pool.retract(chunk);
  pool.retract(chunk);  // once is enough
  pool.check();
  CHECK_FALSE(pool.find_part(kEmptyPrefix, Tokens{1}, all));
  pool.give_back(chunk);
  CHECK(pool.cached() == 0);
  CHECK_THROWS_AS(pool.retract(chunk), Error);
}
