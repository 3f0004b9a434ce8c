#include "catch.h"
#include "core/error.h"
#include "exec/batch.h"

using namespace bolide;

TEST_CASE("a batch lays sequences out as flat arrays") {
  Batch batch;
  const std::vector<int32_t> first = {5, 6, 7}, second = {9};
  const std::vector<int32_t> first_chunks = {4, 2, 0}, second_chunks = {3};
  // Positions 3, 4, 5 with chunks of 4 tokens: the last slot of chunk 4, then chunk 2.
  CHECK(batch.add_sequence(first, 3, first_chunks, 4) == 0);
  CHECK(batch.add_sequence(second, 0, second_chunks, 4) == 3);
  CHECK(batch.token_ids == std::vector<int32_t>{5, 6, 7, 9});
  CHECK(batch.positions == std::vector<int32_t>{3, 4, 5, 0});
  CHECK(batch.row_sequences == std::vector<int32_t>{0, 0, 0, 1});
  CHECK(batch.slots == std::vector<int32_t>{19, 8, 9, 12});
  CHECK(batch.query_offsets == std::vector<int32_t>{0, 3, 4});
  CHECK(batch.kv_lengths == std::vector<int32_t>{6, 1});
  CHECK(batch.chunk_offsets == std::vector<int32_t>{0, 2, 3});  // the third chunk holds nothing yet
  CHECK(batch.chunk_ids == std::vector<int32_t>{4, 2, 3});

  const std::vector<SeenToken> seen = {{1, 0}, {2, 3}};
  const std::vector<LogitBias> biases = {{7, -1.0f}};
  batch.add_logits(3, {}, {}, {});
  batch.add_logits(2, {}, seen, biases);
  CHECK(batch.logit_rows == std::vector<int32_t>{3, 2});
  CHECK(batch.seen_offsets == std::vector<int32_t>{0, 0, 2});
  CHECK(batch.bias_offsets == std::vector<int32_t>{0, 0, 1});
  CHECK(batch.seen[1].output_count == 3);

  batch.clear();
  CHECK(batch.tokens() == 0);
  CHECK(batch.sequences() == 0);
  CHECK(batch.logit_row_count() == 0);
  CHECK(batch.add_sequence(second, 0, second_chunks, 4) == 0);
  CHECK(batch.query_offsets == std::vector<int32_t>{0, 1});
}

TEST_CASE("a batch refuses what does not belong together") {
  Batch batch;
  const std::vector<int32_t> tokens = {1, 2}, chunks = {0};
  CHECK_THROWS_AS(batch.add_sequence({}, 0, chunks, 4), Error);
  CHECK_THROWS_AS(batch.add_sequence(tokens, 3, chunks, 4), Error);  // position 4 needs a second chunk
  CHECK_THROWS_AS(batch.add_sequence(tokens, -1, chunks, 4), Error);
  CHECK_THROWS_AS(batch.add_logits(0, {}, {}, {}), Error);  // no rows yet
  CHECK(batch.tokens() == 0);
}
