// The share of the read bandwidth that a test's repetitions reach: which of them count, and what it is then.
#include "catch.h"
#include "cli/bench_read.h"

namespace bolide {
namespace {

constexpr double kGb = 1e9;

std::vector<ReadBandwidth> pairs(std::vector<std::pair<double, double>> gb) {
  std::vector<ReadBandwidth> around;
  for (const auto& [before, after] : gb) around.push_back({before * kGb, after * kGb});
  return around;
}

TEST_CASE("a share is of the mean of the two measurements around it") {
  const ReadShares shares = read_shares({36 * kGb, 30 * kGb, 41 * kGb}, pairs({{38, 42}, {42, 42}, {40, 42}}));
  REQUIRE(shares.percents.size() == 3);
  CHECK(shares.percents[0] == Approx(90));
  CHECK(shares.percents[1] == Approx(100.0 * 30 / 42));
  CHECK(shares.percents[2] == Approx(100));
  CHECK(shares.steady == 2);  // 42 is 10.5 % above 38
  CHECK(shares.median == Approx((shares.percents[1] + 100) / 2));
  CHECK_FALSE(shares.doubtful());
}

TEST_CASE("repetitions within which the bandwidth changed do not count") {
  const ReadShares shares =
      read_shares({18 * kGb, 30 * kGb, 27 * kGb, 50 * kGb, 45 * kGb}, pairs({{20, 20}, {20, 40}, {30, 30}, {55, 31}, {50, 50}}));
  CHECK(shares.steady == 3);
  CHECK(shares.median == Approx(90));
  CHECK_FALSE(shares.doubtful());
}

TEST_CASE("a median of fewer than half of the repetitions is doubtful") {
  const ReadShares shares = read_shares({10 * kGb, 30 * kGb, 18 * kGb}, pairs({{20, 30}, {30, 60}, {20, 21}}));
  CHECK(shares.steady == 1);
  CHECK(shares.median == shares.percents[2]);
  CHECK(shares.doubtful());
  CHECK_FALSE(read_shares({10 * kGb, 10 * kGb}, pairs({{20, 30}, {20, 20}})).doubtful());
}

TEST_CASE("where no repetition counts the median is over all") {
  const ReadShares shares = read_shares({20 * kGb, 24 * kGb}, pairs({{30, 50}, {20, 40}}));
  CHECK(shares.steady == 0);
  CHECK(shares.median == Approx((50 + 80) / 2.0));
  CHECK(shares.doubtful());
}

TEST_CASE("with a bandwidth as given every repetition counts") {
  const ReadBandwidth given{40 * kGb, 40 * kGb, false};
  const ReadShares shares = read_shares({20 * kGb, 30 * kGb, 38 * kGb}, {given, given, given});
  CHECK(shares.steady == 3);
  CHECK(shares.median == Approx(75));
}

TEST_CASE("10 % apart is not yet too far") {
  CHECK_FALSE(ReadBandwidth{40, 43.9}.wandered());
  CHECK(ReadBandwidth{44.1, 40}.wandered());
}

}  // namespace
}  // namespace bolide
