#include <cmath>

#include "catch.h"
#include "compare.h"
#include "core/error.h"
#include "fixture.h"
#include "reference.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {

struct Heads {
  int32_t heads, kv_heads, head_dim;
};
// {positions before the step, rows in the step}
using Layout = std::vector<std::pair<int32_t, int32_t>>;

int32_t chunks_for(const Layout& layout, int32_t chunk_tokens) {
  int32_t chunks = 3;  // some that nobody uses
  for (auto [first, rows] : layout) chunks += (first + rows + chunk_tokens - 1) / chunk_tokens;
  return chunks;
}

// A cache with random content and queries for it.
struct AttentionSetup {
  AttentionSetup(Backend& b, const Heads& h, const Layout& layout, DType kv_dtype, int32_t chunk_tokens, uint64_t seed)
      : backend(b), heads(h), chunk(chunk_tokens), random(seed) {
    const KvCacheSpec spec{2, h.kv_heads, h.head_dim, chunk_tokens, chunks_for(layout, chunk_tokens), kv_dtype};
    cache = b.alloc_kv(spec);
    ChunkSource source(random, spec.chunks, chunk_tokens);
    for (auto [first, rows] : layout) sequences.push_back(source.sequence(first, rows));
    // Content and queries must not depend on the chunk size.
    Random values(seed + 1);
    content = random_kv(values, sequences, h.kv_heads, h.head_dim, kv_dtype);
    write_kv(b, *cache, 1, sequences, content);
    q = round_to(values.normals(static_cast<size_t>(rows()) * width()), b.activation_dtype());
  }
  size_t width() const { return static_cast<size_t>(heads.heads) * static_cast<size_t>(heads.head_dim); }
  int32_t rows() const {
    int32_t n = 0;
    for (const TestSequence& s : sequences) n += s.rows;
    return n;
  }
  // Scores of variance about 4: neither flat nor one-hot.
  float scale() const { return 2.0f / std::sqrt(static_cast<float>(heads.head_dim)); }

  std::vector<float> run(Backend& on, const std::vector<TestSequence>& part, const std::vector<float>& queries, int32_t window,
                         int32_t most_sequences = 0, int32_t most_rows = 0) const {
    const TestStep step(on, part, chunk);
    StepCapacity capacity = step.capacity;
    capacity.sequences = std::max(capacity.sequences, most_sequences);
    capacity.tokens = std::max(capacity.tokens, most_rows);
    on.reserve(capacity, {64, 64, 2, heads.heads, heads.kv_heads, heads.head_dim, 16, cache->spec().dtype});
    const Activations device_q(on, queries), out(on, queries.size());
    on.attention(
        {step.in(), device_q.buffer(), cache.get(), out.buffer(), scale(), window, 1, heads.heads, heads.kv_heads, heads.head_dim});
    return out.get();
  }
  std::vector<float> run(int32_t window = 0) const { return run(backend, sequences, q, window); }
  Doubles expected(int32_t window) const {
    return reference_attention(q, sequences, content, heads.heads, heads.kv_heads, heads.head_dim, static_cast<double>(scale()), window);
  }
  // Queries of rows [first, first + count) of the step.
  std::vector<float> queries(size_t first, size_t count) const {
    return {q.begin() + static_cast<std::ptrdiff_t>(first * width()), q.begin() + static_cast<std::ptrdiff_t>((first + count) * width())};
  }

  Backend& backend;
  Heads heads;
  int32_t chunk;
  Random random;
  std::unique_ptr<KvCache> cache;
  std::vector<TestSequence> sequences;
  KvContent content;
  std::vector<float> q;
};

// A score of size 4 (two standard deviations) with the rounding of a sum over Dh moves its weight by as much; the weighted sum over
// the positions is one more product.
double attention_tolerance(const AttentionSetup& setup) {
  int32_t longest = 1;
  for (const TestSequence& s : setup.sequences) longest = std::max(longest, s.length());
  return 4.0 * product_tolerance(setup.heads.head_dim, DType::f32) + product_tolerance(longest, setup.backend.activation_dtype());
}

bool supported(Backend& backend, const Heads& h, DType kv) {
  try {
    backend.require_support({64, 64, 2, h.heads, h.kv_heads, h.head_dim, 16}, DType::bf16, kv);
    return true;
  } catch (const Error& error) {
    REQUIRE_FALSE(is_cpu(backend));
    WARN("not supported by " << backend.info().id << ": " << error.what());
    return false;
  }
}

void check_attention(Backend& backend, const Heads& heads, const Layout& layout, DType kv, int32_t chunk_tokens,
                     const std::vector<int32_t>& windows) {
  if (!supported(backend, heads, kv)) return;
  const AttentionSetup setup(backend, heads, layout, kv, chunk_tokens, 500);
  for (int32_t window : windows) {
    INFO(heads.heads << "/" << heads.kv_heads << "x" << heads.head_dim << " C " << chunk_tokens << " " << dtype_name(kv) << " window "
                     << window);
    CHECK(difference(setup.run(window), setup.expected(window), heads.head_dim, attention_tolerance(setup)) == "");
  }
}

const Layout kDecode{{0, 1}, {16, 1}, {63, 1}, {64, 1}, {299, 1}};
const Layout kPrefill{{0, 70}};
const Layout kRagged{{0, 33}, {128, 1}, {40, 7}, {100, 64}, {15, 2}};

}  // namespace

TEST_CASE("attention: head shapes x KV dtypes x decode, prefill and ragged steps") {
  const std::vector<Heads> shapes{{2, 2, 16}, {4, 2, 32}, {9, 3, 64}, {14, 2, 64}, {6, 1, 80}, {3, 3, 96}, {16, 8, 128}, {2, 1, 256}};
  for_each_backend("attention: shapes", [&](Backend& backend) {
    for (DType kv : {DType::f32, DType::bf16, DType::f16, DType::f8}) {
      for (const Heads& heads : shapes) {
        for (const Layout& layout : {kDecode, kPrefill, kRagged}) check_attention(backend, heads, layout, kv, 16, {0});
      }
    }
  });
}

TEST_CASE("attention: head sizes that are no multiple of a vector, many heads per KV head") {
  for_each_backend_and_target("attention: odd shapes", [&](Backend& backend) {
    for (const Heads& heads : std::vector<Heads>{{2, 1, 2}, {3, 1, 18}, {4, 2, 50}, {2, 2, 72}, {40, 1, 16}, {64, 2, 32}}) {
      for (const Layout& layout : {kDecode, kRagged}) check_attention(backend, heads, layout, DType::bf16, 16, {0, 9});
    }
  });
}

TEST_CASE("attention: sliding windows and chunk sizes") {
  for_each_backend_and_target("attention: windows", [&](Backend& backend) {
    for (int32_t chunk_tokens : {16, 64}) {
      for (const Layout& layout : {kDecode, kPrefill, kRagged}) {
        check_attention(backend, {4, 2, 64}, layout, DType::f32, chunk_tokens, {1, 5, 31, 64, 129, 100000});
      }
    }
  });
}

TEST_CASE("attention: tiles of many rows that end anywhere, beside chunk and window edges") {
  // Tiles of 64 rows and of 128 and 192 rows and keys: one row less and more, and prefixes that no tile is a multiple of.
  const Layout layout{{0, 193}, {511, 130}, {100, 64}, {128, 1}, {0, 127}};
  for_each_backend("attention: many rows", [&](Backend& backend) {
    for (const Heads& heads : std::vector<Heads>{{2, 1, 128}, {3, 3, 64}}) {
      for (const DType kv : {DType::bf16, DType::f8}) {
        check_attention(backend, heads, layout, kv, 64, {0, 100});
        check_attention(backend, heads, layout, kv, 8, {128});
        check_attention(backend, heads, layout, kv, 256, {129});
        check_attention(backend, heads, layout, kv, 24, {0, 130});
      }
    }
    check_attention(backend, {8, 1, 128}, {{0, 5}, {3, 1}, {1000, 40}, {777, 2}, {0, 1}, {2000, 3}}, DType::f8, 32, {0, 100, 300});
  });
}

TEST_CASE("attention: fp8 contexts beside the room there is for widening them") {
  // A chunk of 1,024 positions with 32 KV heads of 128 is 16 MiB in bfloat16, and the CUDA backend keeps 256 MiB for them.
  for (const int32_t sequences : {16, 17}) {
    Layout layout(static_cast<size_t>(sequences), {0, 2});
    layout[1] = {7, 1};
    layout[5] = {3, 70};
    layout.push_back({150, 40});
    for_each_backend("attention: widened contexts", [&](Backend& backend) {
      if (is_cpu(backend)) return;
      check_attention(backend, {32, 32, 128}, layout, DType::f8, 1024, {0, 50});
    });
  }
}

TEST_CASE("attention: contexts of several partitions, decode and prefill") {
  for_each_backend("attention: long contexts", [&](Backend& backend) {
    check_attention(backend, {4, 1, 64}, {{2047, 1}}, DType::f32, 16, {0, 700});
    check_attention(backend, {4, 1, 64}, {{1000, 40}, {777, 1}}, DType::bf16, 64, {0, 300});
    // Long enough for partitions to grow.
    check_attention(backend, {2, 1, 16}, {{16500, 1}}, DType::f16, 64, {0});
  });
}

TEST_CASE("attention: a step that may hold as many sequences as rows") {
  for_each_backend("attention: capacity", [&](Backend& backend) {
    const Heads heads{4, 2, 64};
    const AttentionSetup setup(backend, heads, {{0, 12}, {30, 1}, {40, 19}}, DType::f32, 16, 503);
    for (const int32_t most_sequences : {3, 16, 32, 64}) {
      CAPTURE(most_sequences);
      const std::vector<float> out = setup.run(backend, setup.sequences, setup.q, 0, most_sequences);
      CHECK(difference(out, setup.expected(0), heads.head_dim, attention_tolerance(setup)) == "");
    }
  });
}

namespace {

// One row each, lengths around every edge: tiles of 64, parts of two tiles, chunks; and a few that bring more rows.
const Layout kManyRows{{0, 1},   {62, 1},  {63, 1},  {64, 1},  {127, 1}, {128, 1}, {129, 1},  {40, 7},  {255, 1},
                       {256, 1}, {257, 1}, {383, 1}, {511, 1}, {700, 1}, {0, 1},   {1500, 1}, {0, 20},  {15, 1},
                       {16, 1},  {31, 1},  {32, 1},  {190, 1}, {191, 1}, {193, 1}, {320, 1},  {1023, 1}};
// Sequences so few and so long that each is shared by many blocks, in parts of more tiles.
const Layout kManyBlocks{{5000, 1}, {0, 9}, {2111, 1}, {1, 1}};

}  // namespace

TEST_CASE("attention: single rows of many sequences") {
  for_each_backend("attention: many sequences", [&](Backend& backend) {
    std::vector<Heads> shapes{{4, 2, 128}, {3, 3, 64}, {8, 1, 128}, {14, 2, 64}, {3, 1, 128}};
    if (is_cpu(backend)) shapes.resize(2);  // one kernel for all of them there, and filling the caches takes long
    for (DType kv : {DType::bf16, DType::f8}) {
      for (const Heads& heads : shapes) {
        check_attention(backend, heads, kManyRows, kv, 64, {0, 100});
        check_attention(backend, heads, kManyBlocks, kv, 64, {0, 1030});
      }
      for (int32_t chunk_tokens : {8, 16, 32, 128, 256}) check_attention(backend, {4, 2, 128}, kManyRows, kv, chunk_tokens, {0, 65});
      for (int32_t window : {1, 63, 64, 128, 1000}) check_attention(backend, {4, 2, 64}, kManyRows, kv, 16, {window});
    }
  });
}

TEST_CASE("attention: a single row's bits do not depend on the other sequences of the step") {
  for_each_backend_and_target("attention: a row alone", [&](Backend& backend) {
    for (DType kv : {DType::bf16, DType::f8}) {
      for (const Layout& layout : {kManyRows, kManyBlocks}) {
        const Heads heads{4, 2, 64};
        if (!supported(backend, heads, kv)) continue;
        const AttentionSetup setup(backend, heads, layout, kv, 16, 504);
        const auto most_sequences = static_cast<int32_t>(setup.sequences.size());
        const std::vector<float> whole = setup.run();
        REQUIRE(setup.run() == whole);
        size_t first = 0;
        for (const TestSequence& s : setup.sequences) {
          const auto at = whole.begin() + static_cast<std::ptrdiff_t>(first * setup.width());
          if (s.rows == 1) {
            INFO(dtype_name(kv) << " at position " << s.first_position);
            const std::vector<float> alone = setup.run(backend, {s}, setup.queries(first, 1), 0, most_sequences, setup.rows());
            CHECK(alone == std::vector<float>(at, at + static_cast<std::ptrdiff_t>(setup.width())));
          }
          first += static_cast<size_t>(s.rows);
        }
      }
    }
  });
}

TEST_CASE("attention: an fp8 cache holds every value as f32_to_f8 rounds it") {
  std::vector<float> values{448.0f, 460.0f, 463.9f, 464.0f, 465.0f, 1e6f, 1e30f, 0x1p-10f, 0x1p-11f, 1e-9f};
  for (uint8_t bits = 0; bits < 0x7e; ++bits) {
    const float low = f8_to_f32(bits), high = f8_to_f32(static_cast<uint8_t>(bits + 1)), middle = (low + high) / 2.0f;
    values.insert(values.end(), {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)});
  }
  for (size_t i = 0, n = values.size(); i < n; ++i) values.push_back(-values[i]);
  constexpr int32_t kDh = 64, kChunk = 16;
  values.resize((values.size() + kDh - 1) / kDh * kDh);
  for_each_backend_and_target("attention: fp8 rounding", [&](Backend& backend) {
    if (!supported(backend, {1, 1, kDh}, DType::f8)) return;
    const auto count = static_cast<int32_t>(values.size()) / kDh;
    const auto cache = backend.alloc_kv({1, 1, kDh, kChunk, count, DType::f8});
    Random random(505);
    ChunkSource source(random, count, kChunk);
    std::vector<TestSequence> sequences;
    KvContent content;
    for (int32_t i = 0; i < count; ++i) {
      sequences.push_back(source.sequence(0, 1));
      content.k.emplace_back(kDh, 0.0f);
      content.v.emplace_back(values.begin() + i * kDh, values.begin() + (i + 1) * kDh);
    }
    write_kv(backend, *cache, 0, sequences, content);
    const TestStep step(backend, sequences, kChunk);
    backend.reserve(step.capacity, {64, 64, 1, 1, 1, kDh, 16, DType::f8});
    const Activations q(backend, std::vector<float>(values.size(), 0.0f)), out(backend, values.size());
    backend.attention({step.in(), q.buffer(), cache.get(), out.buffer(), 1.0f, 0, 0, 1, 1, kDh});
    // A row that sees one position gets its V.
    CHECK(out.get() == round_to(values, DType::f8));
  });
}

TEST_CASE("attention: extreme scores stay finite and pick the greatest") {
  for_each_backend_and_target("attention: extreme scores", [&](Backend& backend) {
    const Heads heads{2, 1, 32};
    AttentionSetup setup(backend, heads, {{63, 1}, {0, 40}}, DType::f32, 16, 501);
    for (float& v : setup.q) v = round_to(v * 3000.0f, backend.activation_dtype());
    CHECK(difference(setup.run(), setup.expected(0), heads.head_dim, 1e-2) == "");
  });
}

TEST_CASE("attention: a sequence alone equals itself in a batch, prefill in pieces equals the whole, chunks of 16 equal 64") {
  for_each_backend_and_target("attention: invariance", [&](Backend& backend) {
    const Heads heads{6, 2, 64};
    const Layout layout{{0, 70}, {299, 1}, {40, 7}, {0, 1}};
    const AttentionSetup setup(backend, heads, layout, DType::f32, 16, 502);
    const std::vector<float> whole = setup.run();
    const double tolerance = 2.0 * attention_tolerance(setup);
    const auto equal = [&](const std::vector<float>& a, const std::vector<float>& b) {
      // The CPU adds in an order fixed by positions; other backends may choose it by the size of the step.
      return is_cpu(backend) ? (a == b ? "" : "not bitwise equal") : difference(a, b, heads.head_dim, tolerance);
    };
    const auto rows_of = [&](size_t first, size_t count) {
      return std::vector<float>(whole.begin() + static_cast<std::ptrdiff_t>(first * setup.width()),
                                whole.begin() + static_cast<std::ptrdiff_t>((first + count) * setup.width()));
    };
    size_t first = 0;
    for (const TestSequence& s : setup.sequences) {
      const auto count = static_cast<size_t>(s.rows);
      CHECK(equal(setup.run(backend, {s}, setup.queries(first, count), 0), rows_of(first, count)) == "");
      first += count;
    }
    for (int32_t piece : {1, 7, 64}) {
      INFO("pieces of " << piece);
      std::vector<float> joined;
      for (int32_t at = 0; at < 70; at += piece) {
        TestSequence part{at, std::min(piece, 70 - at), setup.sequences[0].chunks};
        const auto out = setup.run(backend, {part}, setup.queries(static_cast<size_t>(at), static_cast<size_t>(part.rows)), 0);
        joined.insert(joined.end(), out.begin(), out.end());
      }
      // Few rows take another kernel than many, which adds up a score in another order.
      CHECK(difference(joined, rows_of(0, 70), heads.head_dim, tolerance) == "");
    }
    const AttentionSetup large_chunks(backend, heads, layout, DType::f32, 64, 502);
    REQUIRE(large_chunks.q == setup.q);
    REQUIRE(large_chunks.content.k == setup.content.k);
    CHECK(equal(large_chunks.run(), whole) == "");
  });
}

TEST_CASE("attention: the CPU's results do not depend on the number of threads") {
  const auto one = cpu_with_threads(1);
  for (const Heads& heads : std::vector<Heads>{{4, 1, 64}, {16, 1, 32}}) {
    // Few long sequences: several threads split them by partitions.
    const AttentionSetup setup(*one, heads, {{1499, 1}, {700, 3}}, DType::bf16, 16, 503);
    const std::vector<float> expected = setup.run();
    for (int threads : {2, 3, 7}) {
      INFO(threads << " threads");
      CHECK(setup.run(*cpu_with_threads(threads), setup.sequences, setup.q, 0) == expected);
    }
  }
}
