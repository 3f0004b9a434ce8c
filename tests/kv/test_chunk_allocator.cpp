#include <random>
#include <set>

#include "catch.h"
#include "core/error.h"
#include "kv/chunk_allocator.h"

using namespace bolide;

TEST_CASE("chunks are handed out once each and come back") {
  ChunkAllocator allocator(3);
  std::set<ChunkId> ids;
  for (int i = 0; i < 3; ++i) ids.insert(allocator.allocate().value());
  CHECK(ids == std::set<ChunkId>{0, 1, 2});
  CHECK(allocator.free() == 0);
  CHECK_FALSE(allocator.allocate().has_value());
  allocator.release(1);
  CHECK(allocator.free() == 1);
  CHECK(allocator.allocate() == 1);
  allocator.check();
}

TEST_CASE("a chunk is free after its last reference") {
  ChunkAllocator allocator(1);
  const ChunkId id = allocator.allocate().value();
  allocator.retain(id);
  CHECK(allocator.references(id) == 2);
  allocator.release(id);
  CHECK(allocator.free() == 0);
  allocator.release(id);
  CHECK(allocator.free() == 1);
  CHECK(allocator.references(id) == 0);
}

TEST_CASE("releasing or retaining a free chunk is an error") {
  ChunkAllocator allocator(2);
  CHECK_THROWS_AS(allocator.release(0), Error);
  CHECK_THROWS_AS(allocator.retain(1), Error);
  CHECK_THROWS(allocator.release(2));
  CHECK_THROWS(allocator.release(-1));
  allocator.check();
}

TEST_CASE("random traffic keeps free and used apart") {
  std::mt19937 random(1);
  ChunkAllocator allocator(17);
  std::multiset<ChunkId> held;
  for (int i = 0; i < 5000; ++i) {
    const unsigned choice = random() % 3;
    if (choice == 0) {
      if (const std::optional<ChunkId> id = allocator.allocate()) {
        REQUIRE(held.count(*id) == 0);
        held.insert(*id);
      } else {
        REQUIRE(allocator.free() == 0);
      }
    } else if (!held.empty()) {
      const auto at = std::next(held.begin(), static_cast<std::ptrdiff_t>(random() % held.size()));
      if (choice == 1) {
        allocator.release(*at);
        held.erase(at);
      } else if (held.size() < 60) {
        allocator.retain(*at);
        held.insert(*at);
      }
    }
    allocator.check();
    REQUIRE(static_cast<size_t>(allocator.total() - allocator.free()) == std::set<ChunkId>(held.begin(), held.end()).size());
  }
}

TEST_CASE("a kept chunk is cached after its last release, and used again by retain") {
  ChunkAllocator allocator(2);
  const ChunkId a = allocator.allocate().value(), b = allocator.allocate().value();
  allocator.keep(a);
  allocator.release(a);
  allocator.check();
  CHECK(allocator.cached() == 1);
  CHECK(allocator.free() == 0);
  CHECK_FALSE(allocator.allocate().has_value());  // cached ones are not handed out by themselves
  allocator.retain(a);
  CHECK(allocator.cached() == 0);
  CHECK(allocator.references(a) == 1);
  allocator.release(a);
  allocator.release(b);
  CHECK(allocator.oldest_cached() == a);
  allocator.forget(a);
  CHECK(allocator.free() == 2);
  CHECK_FALSE(allocator.oldest_cached().has_value());
  CHECK_THROWS_AS(allocator.forget(a), Error);
  CHECK_THROWS_AS(allocator.keep(a), Error);
  CHECK_THROWS_AS(allocator.retain(a), Error);
  allocator.check();
}

TEST_CASE("a chunk that is forgotten while it is used is freed by its last release") {
  ChunkAllocator allocator(1);
  const ChunkId id = allocator.allocate().value();
  allocator.keep(id);
  allocator.forget(id);
  allocator.release(id);
  CHECK(allocator.free() == 1);
  allocator.check();
}

TEST_CASE("cached chunks are named in the order of their release") {
  ChunkAllocator allocator(4);
  std::vector<ChunkId> ids;
  for (int i = 0; i < 4; ++i) {
    ids.push_back(allocator.allocate().value());
    allocator.keep(ids.back());
  }
  for (const size_t i : {2u, 0u, 3u, 1u}) allocator.release(ids[i]);
  allocator.retain(ids[0]);  // from the middle of the list
  allocator.release(ids[0]);
  std::vector<ChunkId> order;
  while (const auto oldest = allocator.oldest_cached()) {
    order.push_back(*oldest);
    allocator.forget(*oldest);
    allocator.check();
  }
  CHECK(order == std::vector<ChunkId>{ids[2], ids[3], ids[1], ids[0]});
}
