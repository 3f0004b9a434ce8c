#include <cmath>

#include "catch.h"
#include "compare.h"
#include "fixture.h"
#include "reference.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {

struct QkvCase {
  QkvShape shape;
  std::vector<std::pair<int32_t, int32_t>> layout;  // {positions before, rows}
  bool bias, head_norms;
};

// Runs norm_qkv on everything up to the step's last row, then reads the cache back through attention: a window of one position returns
// V of the row itself, the full context mixes K of all of them.
struct QkvRun {
  std::vector<float> q, own_v, mixed;
};

struct QkvSetup {
  QkvSetup(Backend& backend, const QkvCase& c, DType weights, uint64_t seed)
      : random(seed),
        shape(c.shape),
        w(backend, random, (c.shape.heads + 2 * c.shape.kv_heads) * c.shape.head_dim, c.shape.hidden, weights, 3,
          1.0f / std::sqrt(static_cast<float>(c.shape.hidden))) {
    const auto outputs = static_cast<size_t>(w.rows), dh = static_cast<size_t>(shape.head_dim);
    norm = around_one(static_cast<size_t>(shape.hidden));
    if (c.bias) bias = random.normals(outputs);
    if (c.head_norms) {
      q_norm = around_one(dh);
      k_norm = around_one(dh);
    }
    for (int32_t i = 0; i < shape.head_dim / 2; ++i)
      frequencies.push_back(std::pow(1e4f, -2.0f * static_cast<float>(i) / static_cast<float>(shape.head_dim)));
  }
  std::vector<float> around_one(size_t n) {
    std::vector<float> values = random.normals(n, 0.2f);
    for (float& v : values) v += 1.0f;
    return values;
  }
  Random random;
  QkvShape shape;
  TestMatrix w;
  std::vector<float> norm, bias, q_norm, k_norm, frequencies;
};

constexpr float kEps = 1e-6f;
constexpr int32_t kChunk = 16;

float attention_scale(const QkvShape& shape) { return 1.0f / std::sqrt(static_cast<float>(shape.head_dim)); }

QkvRun run_step(Backend& backend, const QkvSetup& setup, KvCache& cache, const std::vector<TestSequence>& sequences,
                const std::vector<float>& x) {
  const QkvShape& s = setup.shape;
  const TestStep step(backend, sequences, kChunk);
  backend.reserve(step.capacity, {s.hidden, 16, 2, s.heads, s.kv_heads, s.head_dim, 16});
  const Doubles angles = reference_rope(step.positions, setup.frequencies);
  const DeviceArray<float> device_x(backend, x), norm(backend, setup.norm), bias(backend, setup.bias), q_norm(backend, setup.q_norm),
      k_norm(backend, setup.k_norm), rope(backend, std::vector<float>(angles.begin(), angles.end()));
  const size_t n = static_cast<size_t>(step.tokens) * static_cast<size_t>(s.heads) * static_cast<size_t>(s.head_dim);
  const Activations q(backend, n), own(backend, n), mixed(backend, n);
  backend.norm_qkv({step.in(), device_x.data(), norm.data(), kEps, setup.w.matrix.get(), setup.bias.empty() ? nullptr : bias.data(),
                    setup.q_norm.empty() ? nullptr : q_norm.data(), setup.k_norm.empty() ? nullptr : k_norm.data(), rope.data(), q.buffer(),
                    &cache, 1, s.hidden, s.heads, s.kv_heads, s.head_dim});
  backend.attention({step.in(), q.buffer(), &cache, own.buffer(), 1.0f, 1, 1, s.heads, s.kv_heads, s.head_dim});
  backend.attention({step.in(), q.buffer(), &cache, mixed.buffer(), attention_scale(s), 0, 1, s.heads, s.kv_heads, s.head_dim});
  return {q.get(), own.get(), mixed.get()};
}

std::vector<float> floats(const Doubles& values) { return {values.begin(), values.end()}; }

void check_norm_qkv(Backend& backend, const QkvCase& c, DType weights, DType kv, uint64_t seed) {
  QkvSetup setup(backend, c, weights, seed);
  const QkvShape& s = c.shape;
  const KvCacheSpec spec{2, s.kv_heads, s.head_dim, kChunk, 32, kv};
  const auto cache = backend.alloc_kv(spec);
  KvWriter(backend, *cache).poison();
  ChunkSource source(setup.random, spec.chunks, kChunk);
  // Each sequence's earlier positions first, in a step of their own, then the step that is judged.
  for (auto [before, rows] : c.layout) {
    TestSequence sequence = source.sequence(before, rows);
    const auto positions = static_cast<size_t>(sequence.length()), d = static_cast<size_t>(s.hidden);
    const std::vector<float> x = setup.random.normals(positions * d, 3.0f);
    const auto split = x.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(before) * d);
    if (before > 0) run_step(backend, setup, *cache, {{0, before, sequence.chunks}}, {x.begin(), split});
    const QkvRun run = run_step(backend, setup, *cache, {sequence}, {split, x.end()});

    std::vector<int32_t> all(positions);
    for (size_t p = 0; p < positions; ++p) all[p] = static_cast<int32_t>(p);
    const ReferenceQkv expected = reference_norm_qkv(x, setup.norm, static_cast<double>(kEps), setup.w.values, setup.bias, setup.q_norm,
                                                     setup.k_norm, reference_rope(all, setup.frequencies), s);
    const auto q_begin = expected.q.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(before * s.heads * s.head_dim));
    const Doubles q(q_begin, expected.q.end());
    const double product = 2.0 * product_tolerance(s.hidden, backend.activation_dtype());
    CHECK(difference(run.q, q, s.head_dim, product) == "");

    const KvContent content{{round_to(floats(expected.k), kv)}, {round_to(floats(expected.v), kv)}};
    const KvContent exact{{floats(expected.k)}, {floats(expected.v)}};
    // Where an element lies at a rounding border, the cache may hold its neighbour: rare for float32 arithmetic.
    const double cached = product + 0.5 * unit_roundoff(kv);
    CHECK(difference(run.own_v, reference_attention(floats(q), {sequence}, content, s.heads, s.kv_heads, s.head_dim, 1.0, 1), s.head_dim,
                     cached) == "");
    const double stored = product + unit_roundoff(kv);
    CHECK(difference(run.own_v, reference_attention(floats(q), {sequence}, exact, s.heads, s.kv_heads, s.head_dim, 1.0, 1), s.head_dim,
                     stored) == "");
    const double scale = static_cast<double>(attention_scale(s));
    CHECK(difference(run.mixed, reference_attention(floats(q), {sequence}, content, s.heads, s.kv_heads, s.head_dim, scale, 0), s.head_dim,
                     6.0 * cached) == "");
  }
}

void check_weights(DType weights) {
  const std::vector<QkvCase> cases{{{64, 4, 2, 16}, {{0, 1}}, false, false},   {{131, 2, 1, 32}, {{5, 1}, {0, 2}}, true, false},
                                   {{576, 9, 3, 64}, {{0, 33}}, false, false}, {{96, 4, 2, 80}, {{30, 7}}, false, true},
                                   {{128, 3, 3, 96}, {{0, 70}}, true, true},   {{65, 2, 2, 128}, {{15, 2}, {16, 1}}, false, true},
                                   {{80, 2, 1, 256}, {{0, 5}}, true, false},   {{48, 1, 1, 18}, {{3, 20}}, true, true},
                                   {{200, 4, 2, 64}, {{0, 140}}, true, true},  {{136, 2, 1, 128}, {{7, 300}}, false, true}};
  for_each_backend("norm_qkv", [&](Backend& backend) {
    for (DType kv : {DType::f32, DType::bf16, DType::f16, DType::f8}) {
      for (size_t i = 0; i < cases.size(); ++i) {
        INFO("case " << i << " weights " << dtype_name(weights) << " KV " << dtype_name(kv));
        check_norm_qkv(backend, cases[i], weights, kv, 600 + i);
      }
    }
  });
}

}  // namespace

// Q, and K and V as attention finds them, for all KV dtypes, with bias and head norms, at odd sizes. A case for each dtype of weights, so
// that slow checkers can run them side by side.
TEST_CASE("norm_qkv: float32 weights") { check_weights(DType::f32); }
TEST_CASE("norm_qkv: float16 weights") { check_weights(DType::f16); }
TEST_CASE("norm_qkv: bfloat16 weights") { check_weights(DType::bf16); }

TEST_CASE("norm_qkv and attention: several sequences in one step equal each alone, prefill in pieces equals the whole") {
  for_each_backend_and_target("norm_qkv: invariance", [&](Backend& backend) {
    const QkvCase c{{96, 4, 2, 32}, {}, true, true};
    QkvSetup setup(backend, c, DType::bf16, 650);
    const KvCacheSpec spec{2, 2, 32, kChunk, 64, DType::f32};
    const double tolerance = 12.0 * product_tolerance(c.shape.hidden, backend.activation_dtype());
    const std::vector<int32_t> lengths{70, 1, 33};
    std::vector<std::vector<float>> x;
    std::vector<float> all_x;
    for (int32_t n : lengths) {
      x.push_back(setup.random.normals(static_cast<size_t>(n) * 96, 3.0f));
      all_x.insert(all_x.end(), x.back().begin(), x.back().end());
    }
    const auto cache = backend.alloc_kv(spec);
    ChunkSource source(setup.random, spec.chunks, kChunk);
    std::vector<TestSequence> sequences;
    for (int32_t n : lengths) sequences.push_back(source.sequence(0, n));
    const QkvRun together = run_step(backend, setup, *cache, sequences, all_x);
    size_t at = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const auto alone_cache = backend.alloc_kv(spec);
      const QkvRun alone = run_step(backend, setup, *alone_cache, {sequences[i]}, x[i]);
      const auto begin = together.mixed.begin() + static_cast<std::ptrdiff_t>(at);
      CHECK(difference(alone.mixed, std::vector<float>(begin, begin + static_cast<std::ptrdiff_t>(alone.mixed.size())), 32, tolerance) ==
            "");
      at += alone.mixed.size();
    }
    const std::vector<float> whole(together.mixed.begin(), together.mixed.begin() + 70 * 4 * 32);
    for (int32_t piece : {1, 7, 64}) {
      INFO("pieces of " << piece);
      const auto piece_cache = backend.alloc_kv(spec);
      std::vector<float> joined;
      for (int32_t first = 0; first < 70; first += piece) {
        const int32_t rows = std::min(piece, 70 - first);
        const auto begin = x[0].begin() + static_cast<std::ptrdiff_t>(first) * 96;
        const QkvRun run = run_step(backend, setup, *piece_cache, {{first, rows, sequences[0].chunks}},
                                    {begin, begin + static_cast<std::ptrdiff_t>(rows) * 96});
        joined.insert(joined.end(), run.mixed.begin(), run.mixed.end());
      }
      CHECK(difference(joined, whole, 32, tolerance) == "");
    }
  });
}
