// Blocks of positions in turns: every block that a row sees comes once, in order, whatever the rows' lengths and the window. No GPU needed.
#include <algorithm>
#include <memory>
#include <vector>

#include "catch.h"
#include "cuda/decode/turns.h"

using namespace bolide::decode;

namespace {

// kGroup: thread blocks that share a key/value head. First positions of the blocks that one of them meets of each row, in the order of the
// rounds.
template <int kGroup>
std::vector<std::vector<int>> met_in_turns(const OwnCounts<kMaxRows>& own, int rows, int rank, int window, int positions) {
  std::vector<std::vector<int>> met(static_cast<size_t>(rows));
  const int rounds = rounds_of<kGroup>(own, window, positions);
  for (int round = 0; round < rounds; ++round) {
    for (int row = 0; row < rows; ++row) {
      const Turn turn = turn_of<kGroup>(own, rank, window, round, row, positions);
      if (!turn.present) continue;
      met[static_cast<size_t>(row)].push_back(turn.first);
      REQUIRE(turn.at >= own.first[row]);
      REQUIRE(turn.at < own.first[row + 1]);
    }
  }
  return met;
}
// The rank's blocks that the row sees, by what each rank owns: every kGroup th of the row's blocks, its first further by two a row.
template <int kGroup>
std::vector<int> seen_of(int context, int row, int rank, int window, int positions) {
  std::vector<int> seen;
  for (int block = 0; block * positions <= context; ++block) {
    const bool owned = (block + 2 * row) % kGroup == rank;
    const bool visible = window == 0 || (block + 1) * positions > context + 1 - window;
    if (owned && visible) seen.push_back(block * positions);
  }
  return seen;
}

template <int kGroup>
void check_turns() {
  const auto own = std::make_unique<OwnCounts<kMaxRows>>();
  const std::vector<std::vector<int>> lengths{{0},
                                              {511, 0},
                                              {31, 32, 33},
                                              {5000, 0, 5000, 17},
                                              {16000, 9},
                                              {4095, 4096},
                                              {700, 1300, 90, 2000},
                                              {20000, 100, 512, 8191},
                                              {3000, 0, 9000, 31, 700, 8191, 4096, 64},
                                              {1, 2, 40, 4000, 5}};
  for (const int positions : {32, 64}) {
    for (const int window : {0, 1, 31, 32, 33, 100, 512, 1500, 4096, 30000}) {
      for (const std::vector<int>& contexts : lengths) {
        const int rows = static_cast<int>(contexts.size());
        for (int rank = 0; rank < kGroup; ++rank) {
          own->first[0] = own->most = 0;
          for (int row = 0; row < rows; ++row) add_row<kGroup>(*own, rank, row, contexts[static_cast<size_t>(row)], positions);
          const auto met = met_in_turns<kGroup>(*own, rows, rank, window, positions);
          CAPTURE(kGroup, positions, window, contexts, rank);
          for (int row = 0; row < rows; ++row)
            REQUIRE(met[static_cast<size_t>(row)] == seen_of<kGroup>(contexts[static_cast<size_t>(row)], row, rank, window, positions));
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("turns: each block that a row sees comes once, in order") {
  check_turns<kGroupBlocks>();
  check_turns<8>();
  check_turns<42>();
  check_turns<64>();
}

// What the workers go by to publish a row's part: in exactly one round it is done, behind its last block or, with none, at once.
TEST_CASE("turns: a row is done once, and behind its last block") {
  const auto own = std::make_unique<OwnCounts<kMaxRows>>();
  for (const int window : {0, 1, 100, 1500}) {
    for (int rank = 0; rank < kGroupBlocks; ++rank) {
      own->first[0] = own->most = 0;
      const std::vector<int> contexts{4700, 0, 40, 2600, 511, 512, 9000, 31};
      for (int row = 0; row < kMaxRows; ++row) add_row(*own, rank, row, contexts[static_cast<size_t>(row)], 32);
      for (int row = 0; row < kMaxRows; ++row) {
        int done = 0;
        const int rounds = std::max(1, rounds_of(*own, window, 32));
        for (int round = 0; round < rounds; ++round) {
          const Turn turn = turn_of(*own, rank, window, round, row, 32);
          REQUIRE((done == 0 || !turn.present));
          done += turn.ends_row(round);
        }
        CAPTURE(window, rank, row);
        REQUIRE(done == 1);
      }
    }
  }
}
