#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "catch.h"
#include "core/error.h"
#include "fixture.h"
#include "reference.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<SampledToken> sample(Backend& backend, const std::vector<std::vector<float>>& rows, const std::vector<TestSampling>& sampling) {
  const auto vocab = static_cast<int32_t>(rows.at(0).size());
  std::vector<float> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  const TestStep step(backend, {{0, 1, {0}}}, 16, {0}, std::vector<int32_t>(rows.size(), 0), sampling);
  backend.reserve(step.capacity, {16, 16, 1, 1, 1, 16, vocab});
  const DeviceArray<float> logits(backend, flat);
  const DeviceArray<SampledToken> out(backend, rows.size());
  backend.sample({step.in(), logits.data(), out.data(), vocab});
  const std::vector<SampledToken> result = out.get();
  // Bytes, because NaN equals nothing.
  CHECK(std::memcmp(logits.get().data(), flat.data(), flat.size() * sizeof(float)) == 0);
  return result;
}

SampledToken sample_one(Backend& backend, const std::vector<float>& row, const TestSampling& sampling) {
  return sample(backend, {row}, {sampling})[0];
}

TestSampling greedy(int32_t top_logprobs = -1) {
  TestSampling s;
  s.spec.top_logprobs = top_logprobs;
  return s;
}

TestSampling drawn(float temperature, uint64_t seed, uint32_t position) {
  TestSampling s;
  s.spec.temperature = temperature;
  s.spec.seed = seed;
  s.spec.sequence = 3;
  s.spec.position = position;
  return s;
}

// Draws `count` tokens at successive positions with this spec, 64 rows at a time.
std::vector<int32_t> draw_many(Backend& backend, const std::vector<float>& row, const TestSampling& sampling, int32_t count) {
  std::vector<int32_t> ids;
  while (static_cast<int32_t>(ids.size()) < count) {
    std::vector<TestSampling> specs(static_cast<size_t>(std::min(64, count - static_cast<int32_t>(ids.size()))), sampling);
    for (size_t i = 0; i < specs.size(); ++i) specs[i].spec.position = static_cast<uint32_t>(ids.size() + i);
    for (const SampledToken& token : sample(backend, std::vector<std::vector<float>>(specs.size(), row), specs)) ids.push_back(token.id);
  }
  return ids;
}

// Every draw must be the reference's: the same numbers decide. Where two entries come closer than float32 can tell, either is right.
void check_draws(Backend& backend, const std::vector<float>& row, const TestSampling& sampling, int32_t count) {
  const Doubles scores = reference_filtered(row, sampling);
  const std::vector<int32_t> ids = draw_many(backend, row, sampling, count);
  for (size_t i = 0; i < ids.size(); ++i) {
    SamplingSpec spec = sampling.spec;
    spec.position = static_cast<uint32_t>(i);
    const ReferenceDraw expected = reference_draw(scores, spec);
    INFO("draw " << i << ": " << ids[i] << ", reference " << expected.id << " by " << expected.lead);
    CHECK((ids[i] == expected.id || expected.lead < 1e-4));
    CHECK(scores.at(static_cast<size_t>(ids[i])) > -std::numeric_limits<double>::infinity());
  }
}

}  // namespace

TEST_CASE("sample: greedy takes the greatest logit, ties to the lowest id, at any place and size") {
  for_each_backend_and_target("sample: greedy", [&](Backend& backend) {
    Random random(700);
    for (int32_t vocab : {1, 2, 5, 16, 17, 64, 1003, 4099, 151936}) {
      std::vector<float> row = random.normals(static_cast<size_t>(vocab));
      for (int32_t attempt = 0; attempt < 8; ++attempt) {
        const int32_t a = random.below(vocab), b = random.below(vocab);
        std::vector<float> tied = row;
        tied[static_cast<size_t>(a)] = tied[static_cast<size_t>(b)] = attempt % 2 == 0 ? 50.0f : 1e30f;
        INFO("V " << vocab << " at " << a << " and " << b);
        CHECK(sample_one(backend, tied, greedy()).id == std::min(a, b));
      }
      CHECK(sample_one(backend, row, greedy()).id == std::max_element(row.begin(), row.end()) - row.begin());
      const std::vector<float> negative(static_cast<size_t>(vocab), -7.5f);
      CHECK(sample_one(backend, negative, greedy()).id == 0);
    }
    CHECK(sample_one(backend, {-0.0f, 0.0f, -kInfinity}, greedy()).id == 0);
  });
}

TEST_CASE("sample: log-probabilities and the most probable ids, of unmodified logits") {
  for_each_backend_and_target("sample: log-probabilities", [&](Backend& backend) {
    Random random(701);
    for (int32_t vocab : {3, 50, 1003, 151936}) {
      std::vector<float> row = random.normals(static_cast<size_t>(vocab), 4.0f);
      row[2] = row[1] = 11.0f;  // a tie among the first
      const Doubles expected = reference_logprobs(row);
      std::vector<int32_t> order(static_cast<size_t>(vocab));
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int32_t a, int32_t b) { return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)]; });
      for (int32_t wanted : {0, 1, 5, kMaxTopLogprobs}) {
        TestSampling sampling = wanted == 5 ? drawn(2.0f, 9, 1) : greedy();
        sampling.spec.top_logprobs = wanted;
        sampling.biases = {{0, 30.0f}};  // must not show in what is reported
        const SampledToken token = sample_one(backend, row, sampling);
        INFO("V " << vocab << " top " << wanted);
        CHECK(std::abs(static_cast<double>(token.logprob) - expected.at(static_cast<size_t>(token.id))) < 1e-5);
        REQUIRE(token.top_count == std::min(wanted, vocab));
        for (int32_t i = 0; i < token.top_count; ++i) {
          CHECK(token.top_ids[i] == order[static_cast<size_t>(i)]);
          CHECK(std::abs(static_cast<double>(token.top_logprobs[i]) - expected[static_cast<size_t>(order[static_cast<size_t>(i)])]) < 1e-5);
        }
      }
    }
  });
}

TEST_CASE("sample: log-probabilities stay exact for far-off, flat and masked logits") {
  for_each_backend_and_target("sample: log-probabilities, extremes", [&](Backend& backend) {
    std::vector<float> flat(151936, 3.25f);
    CHECK(std::abs(sample_one(backend, flat, greedy(1)).logprob + std::log(151936.0f)) < 1e-5f);
    std::vector<float> far(1000, -20000.0f);
    far[17] = -19000.0f;
    CHECK(sample_one(backend, far, greedy(0)).logprob == 0.0f);
    std::vector<float> masked(1000, -kInfinity);
    masked[3] = masked[9] = 5.0f;
    const SampledToken token = sample_one(backend, masked, greedy(3));
    CHECK(token.id == 3);
    CHECK(std::abs(token.logprob + std::log(2.0f)) < 1e-6f);
    CHECK(token.top_ids[1] == 9);
    CHECK(token.top_logprobs[2] == -kInfinity);
  });
}

TEST_CASE("sample: a target is reported, not drawn") {
  for_each_backend("sample: target", [&](Backend& backend) {
    Random random(702);
    const std::vector<float> row = random.normals(5000, 3.0f);
    const Doubles expected = reference_logprobs(row);
    for (int32_t target : {0, 77, 4999}) {
      TestSampling sampling = drawn(1.0f, 1, 1);
      sampling.spec.target = target;
      sampling.spec.top_logprobs = 2;
      const SampledToken token = sample_one(backend, row, sampling);
      CHECK(token.id == target);
      CHECK(std::abs(static_cast<double>(token.logprob) - expected[static_cast<size_t>(target)]) < 1e-5);
      CHECK(token.top_count == 2);
      CHECK(token.top_ids[0] == std::max_element(row.begin(), row.end()) - row.begin());
    }
  });
}

TEST_CASE("sample: penalties, biases and ids without text under greedy") {
  for_each_backend("sample: penalties", [&](Backend& backend) {
    const std::vector<float> row{4.0f, 3.9f, 3.0f, -1.0f, 2.0f, 9.0f};
    TestSampling s = greedy();
    s.spec.allowed_vocab = 5;
    CHECK(sample_one(backend, row, s).id == 0);
    s.spec.repetition_penalty = 1.1f;
    s.seen = {{0, 0}};  // in the prompt only: 4 / 1.1 < 3.9
    CHECK(sample_one(backend, row, s).id == 1);
    s.spec.repetition_penalty = 1.0f;
    s.spec.presence_penalty = 0.5f;
    CHECK(sample_one(backend, row, s).id == 0);  // presence counts the output only
    s.seen = {{0, 1}};
    CHECK(sample_one(backend, row, s).id == 1);
    s.spec.presence_penalty = 0.0f;
    s.spec.frequency_penalty = 0.3f;
    s.seen = {{0, 3}, {1, 4}};  // 3.1 and 2.7 against 3.0
    CHECK(sample_one(backend, row, s).id == 0);
    s.seen = {{0, 4}, {1, 4}};
    CHECK(sample_one(backend, row, s).id == 2);
    s.biases = {{4, 1.5f}, {3, 2.0f}};
    CHECK(sample_one(backend, row, s).id == 4);
    // Entries outside the vocabulary change nothing.
    s.seen.push_back({1 << 20, 2});
    s.biases.push_back({-5, 100.0f});
    s.biases.push_back({5, 100.0f});
    CHECK(sample_one(backend, row, s).id == 4);
    // A negative logit is multiplied, so that it falls, too.
    TestSampling negative = greedy();
    negative.spec.repetition_penalty = 2.0f;
    negative.seen = {{0, 1}};
    CHECK(sample_one(backend, {-1.0f, -1.5f}, negative).id == 1);
  });
}

TEST_CASE("sample: what cannot be sampled is an error that says where") {
  const auto backend = cpu_with_threads(2);
  std::vector<float> good(1000, 0.0f);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), kInfinity}) {
    for (size_t at : {size_t{0}, size_t{500}, size_t{999}}) {
      std::vector<float> row = good;
      row[at] = bad;
      for (const TestSampling& s : {greedy(), drawn(1.0f, 1, 1)}) {
        try {
          sample(*backend, {good, good, row}, {greedy(), greedy(), s});
          FAIL("a row with " << bad << " was sampled");
        } catch (const Error& error) {
          CHECK(std::string(error.what()).find("row 2") != std::string::npos);
          CHECK(std::string(error.what()).find("Check") != std::string::npos);
        }
      }
    }
  }
  CHECK_THROWS_AS(sample_one(*backend, std::vector<float>(10, -kInfinity), greedy()), Error);
  TestSampling banned = drawn(1.0f, 1, 1);
  banned.biases = {{0, -kInfinity}, {1, -kInfinity}};
  CHECK_THROWS_AS(sample_one(*backend, {1.0f, 2.0f}, banned), Error);
}

TEST_CASE("sample: temperature, top-k, top-p, min-p and penalties draw what the reference draws") {
  struct Filters {
    float temperature;
    int32_t top_k;
    float top_p, min_p;
  };
  const std::vector<Filters> all{{1.0f, 0, 1.0f, 0.0f}, {0.6f, 20, 0.95f, 0.0f}, {1.5f, 0, 0.9f, 0.0f},        {0.8f, 0, 1.0f, 0.05f},
                                 {1.0f, 1, 1.0f, 0.0f}, {2.0f, 700, 0.5f, 0.1f}, {1.0f, 50, 0.3f, 0.2f},       {0.05f, 40, 0.99f, 0.0f},
                                 {1.0f, 0, 0.0f, 0.0f}, {1.0f, 0, 1.0f, 1.0f},   {0.7f, 5000, 0.999f, 0.001f}, {30.0f, 0, 0.7f, 0.0f}};
  for_each_backend_and_target("sample: filters", [&](Backend& backend) {
    Random random(703);
    for (int32_t vocab : {7, 1003, 6000}) {
      std::vector<float> row = random.normals(static_cast<size_t>(vocab), 3.0f);
      TestSampling sampling = drawn(1.0f, 42, 0);
      sampling.spec.repetition_penalty = 1.2f;
      sampling.spec.presence_penalty = 0.4f;
      sampling.spec.frequency_penalty = 0.2f;
      sampling.seen = {{0, 0}, {3, 2}, {5, 1}};
      sampling.biases = {{1, 2.5f}, {2, -3.0f}};
      sampling.spec.allowed_vocab = vocab - 1;
      for (const Filters& f : all) {
        INFO("V " << vocab << " temperature " << f.temperature << " top-k " << f.top_k << " top-p " << f.top_p << " min-p " << f.min_p);
        sampling.spec.temperature = f.temperature;
        sampling.spec.top_k = f.top_k;
        sampling.spec.top_p = f.top_p;
        sampling.spec.min_p = f.min_p;
        check_draws(backend, row, sampling, 100);
      }
    }
  });
}

TEST_CASE("sample: ties at the border of top-k stay, ties at the border of top-p go by id") {
  for_each_backend_and_target("sample: ties at borders", [&](Backend& backend) {
    std::vector<float> row(300, -4.0f);
    row[10] = 2.0f;
    row[20] = row[30] = row[40] = 1.0f;
    TestSampling top_k = drawn(1.0f, 5, 0);
    top_k.spec.top_k = 2;
    std::vector<int32_t> ids = draw_many(backend, row, top_k, 400);
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    CHECK(ids == std::vector<int32_t>{10, 20, 30, 40});
    // e^2 : e : e : e is 0.475 and three times 0.175 of their sum: with top-p 0.6, id 20 completes the mass.
    TestSampling top_p = top_k;
    top_p.spec.top_k = 4;
    top_p.spec.top_p = 0.6f;
    ids = draw_many(backend, row, top_p, 400);
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    CHECK(ids == std::vector<int32_t>{10, 20});
  });
}

TEST_CASE("sample: a large vocabulary, sharp, flat and with far-off entries") {
  for_each_backend("sample: large vocabulary", [&](Backend& backend) {
    Random random(704);
    const std::vector<float> row = random.normals(151936, 2.5f), flat(151936, 1.0f);
    TestSampling sampling = drawn(0.6f, 11, 0);
    check_draws(backend, row, sampling, 3);
    sampling.spec.top_p = 0.95f;
    check_draws(backend, row, sampling, 3);
    sampling.spec.top_k = 20;
    check_draws(backend, row, sampling, 3);
    check_draws(backend, flat, drawn(1.0f, 12, 0), 2);
    TestSampling half = drawn(1.0f, 13, 0);
    half.spec.top_p = 0.5f;
    check_draws(backend, flat, half, 2);
    // One entry in reach of the draw, and the filters have to count those far below it.
    std::vector<float> lone(1000, -60.0f);
    lone[500] = 0.0f;
    TestSampling far = drawn(1.0f, 14, 0);
    far.spec.top_k = 900;
    far.spec.top_p = 0.9f;
    CHECK(sample_one(backend, lone, far).id == 500);
  });
}

TEST_CASE("sample: a vanishing temperature is greedy, a huge one uniform") {
  for_each_backend("sample: extreme temperatures", [&](Backend& backend) {
    Random random(705);
    const std::vector<float> row = random.normals(2000, 3.0f);
    const auto best = static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
    for (float temperature : {1e-4f, 1e-20f, 1e-38f}) CHECK(sample_one(backend, row, drawn(temperature, 1, 1)).id == best);
    std::vector<int32_t> ids = draw_many(backend, row, drawn(1e30f, 1, 0), 400);
    std::sort(ids.begin(), ids.end());
    // 400 of 2000: about 363 different ones.
    CHECK(std::unique(ids.begin(), ids.end()) - ids.begin() > 320);
  });
}

TEST_CASE("sample: 20,000 draws follow the probabilities") {
  for_each_backend("sample: distribution", [&](Backend& backend) {
    Random random(706);
    const std::vector<float> row = random.normals(200, 1.5f);
    TestSampling sampling = drawn(0.9f, 2024, 0);
    sampling.spec.min_p = 0.01f;
    Doubles scores = reference_filtered(row, sampling);
    double sum = 0.0;
    for (double s : scores) sum += std::exp(s);
    constexpr int32_t kDraws = 20000;
    std::vector<int32_t> counts(row.size(), 0);
    for (int32_t id : draw_many(backend, row, sampling, kDraws)) ++counts.at(static_cast<size_t>(id));
    double chi_square = 0.0, bins = 0.0;
    for (size_t i = 0; i < row.size(); ++i) {
      const double expected = kDraws * std::exp(scores[i]) / sum;
      if (expected == 0.0) {
        CHECK(counts[i] == 0);
        continue;
      }
      REQUIRE(expected >= 5.0);  // where the chi-square approximation holds
      chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
      bins += 1.0;
    }
    const double freedom = bins - 1.0;
    REQUIRE(freedom > 20.0);
    // Mean `freedom`, standard deviation sqrt(2 freedom); the draws are fixed by the seed, so this cannot flicker.
    CHECK(chi_square < freedom + 4.0 * std::sqrt(2.0 * freedom));
    CHECK(chi_square > freedom - 4.0 * std::sqrt(2.0 * freedom));
  });
}

TEST_CASE("sample: a token depends on its own spec, not on its place in the batch") {
  for_each_backend("sample: batch mates", [&](Backend& backend) {
    Random random(707);
    std::vector<std::vector<float>> rows;
    std::vector<TestSampling> specs;
    for (int i = 0; i < 9; ++i) {
      rows.push_back(random.normals(3000, 2.0f));
      specs.push_back(drawn(1.0f, static_cast<uint64_t>(i % 3), static_cast<uint32_t>(i)));
      specs.back().spec.top_logprobs = 2;
      if (i % 2 == 0) specs.back().spec.top_p = 0.8f;
      if (i % 4 == 0) specs.back().biases = {{i, 4.0f}};
      if (i % 3 == 0) specs.back().seen = {{i, 1}, {i + 1, 2}}, specs.back().spec.repetition_penalty = 1.3f;
    }
    const std::vector<SampledToken> together = sample(backend, rows, specs);
    for (size_t i = 0; i < rows.size(); ++i) {
      const SampledToken alone = sample_one(backend, rows[i], specs[i]);
      CHECK(alone.id == together[i].id);
      CHECK(alone.logprob == together[i].logprob);
    }
    std::reverse(rows.begin(), rows.end());
    std::reverse(specs.begin(), specs.end());
    const std::vector<SampledToken> reversed = sample(backend, rows, specs);
    for (size_t i = 0; i < rows.size(); ++i) CHECK(reversed[i].id == together[rows.size() - 1 - i].id);
  });
}

TEST_CASE("sample: same seed, same tokens; seed, sequence and position each make others") {
  for_each_backend("sample: seeds", [&](Backend& backend) {
    const std::vector<float> row(5000, 0.0f);
    const TestSampling base = drawn(1.0f, 77, 0);
    const std::vector<int32_t> ids = draw_many(backend, row, base, 50);
    CHECK(draw_many(backend, row, base, 50) == ids);
    TestSampling other = base;
    other.spec.seed = 78;
    CHECK(draw_many(backend, row, other, 50) != ids);
    other = base;
    other.spec.sequence = 4;
    CHECK(draw_many(backend, row, other, 50) != ids);
    CHECK(std::count(ids.begin(), ids.end(), ids[0]) < 5);
  });
}
