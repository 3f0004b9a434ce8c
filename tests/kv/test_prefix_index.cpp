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
