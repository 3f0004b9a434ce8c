#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <tuple>

#include "catch.h"
#include "core/error.h"
#include "fixture.h"

using namespace bolide;
using namespace bolide::ops_test;

namespace {

// What attention makes of every chunk as a sequence of its own: [chunks, C, H Dh], row t of each chunk having the same query.
std::vector<float> seen_by_attention(Backend& backend, const KvCache& cache, int32_t layer, int32_t window) {
  const KvCacheSpec& spec = cache.spec();
  std::vector<TestSequence> sequences;
  for (int32_t chunk = 0; chunk < spec.chunks; ++chunk) sequences.push_back({0, spec.chunk_tokens, {chunk}});
  const TestStep step(backend, sequences, spec.chunk_tokens);
  backend.reserve(step.capacity, {64, 16, spec.layers, spec.kv_heads, spec.kv_heads, spec.head_dim, 16});
  const std::vector<float> queries =
      Random(3).normals(static_cast<size_t>(spec.chunk_tokens) * static_cast<size_t>(spec.kv_heads * spec.head_dim));
  std::vector<float> all;
  for (int32_t chunk = 0; chunk < spec.chunks; ++chunk) all.insert(all.end(), queries.begin(), queries.end());
  const Activations q(backend, all), out(backend, all.size());
  backend.attention({step.in(), q.buffer(), &cache, out.buffer(), 0.5f, window, layer, spec.kv_heads, spec.kv_heads, spec.head_dim});
  return out.get();
}

void fill(Backend& backend, KvCache& cache) {
  const KvCacheSpec& spec = cache.spec();
  KvWriter writer(backend, cache);
  Random random(17);
  std::vector<int32_t> slots(static_cast<size_t>(spec.chunks * spec.chunk_tokens));
  for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int32_t>(i);
  const size_t values = slots.size() * static_cast<size_t>(spec.kv_heads * spec.head_dim);
  for (int32_t layer = 0; layer < spec.layers; ++layer) writer.write(layer, slots, random.normals(values), random.normals(values));
}

}  // namespace

TEST_CASE("KV cache: chunks are copied in all layers as far as asked, and nothing else changes") {
  for_each_backend("copy_chunks", [](Backend& backend) {
    // Rows that are a multiple of 16 bytes and rows that are not; more copies than the CUDA backend puts into one launch.
    for (const auto& [heads, head_dim, chunk, copies] : {std::tuple{2, 6, 5, 3}, {2, 64, 16, 2}, {1, 8, 4, 150}}) {
      const KvCacheSpec spec{2, heads, head_dim, chunk, 2 * copies + 1, backend.activation_dtype()};
      INFO(heads << " heads of " << head_dim << ", chunks of " << chunk << ", " << copies << " copies");
      const auto cache = backend.alloc_kv(spec);
      fill(backend, *cache);
      const auto snapshots = [&] {
        std::vector<std::vector<float>> all;
        for (const int32_t window : {0, 2}) {
          for (int32_t layer = 0; layer < spec.layers; ++layer) all.push_back(seen_by_attention(backend, *cache, layer, window));
        }
        return all;
      };
      const auto before = snapshots();
      Random random(29);
      const std::vector<int32_t> order = random.permutation(spec.chunks);
      std::vector<ChunkCopy> list;  // two from each chunk
      for (int32_t i = 0; i < copies; ++i)
        list.push_back({order[static_cast<size_t>(i / 2)], order[static_cast<size_t>(copies + i)], 1 + random.below(chunk)});
      backend.copy_chunks(*cache, list);
      const auto after = snapshots();
      const auto width = static_cast<size_t>(heads * head_dim);
      for (size_t s = 0; s < after.size(); ++s) {
        const bool pairs = s >= 2;  // a row sees itself and the one before it
        std::vector<float> expected = before[s];
        const auto row = [&](const std::vector<float>& values, int32_t of_chunk, int32_t t) {
          return values.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(of_chunk * chunk + t) * width);
        };
        for (const ChunkCopy& copy : list) {
          // Rows behind the copied ones see what was there, unless they also see copied ones.
          for (int32_t t = 0; t < chunk && (t < copy.tokens || !pairs || t == copy.tokens); ++t) {
            const std::vector<float>& from = t < copy.tokens ? before[s] : after[s];
            std::copy_n(row(from, t < copy.tokens ? copy.from : copy.to, t), width,
                        expected.begin() + (row(before[s], copy.to, t) - before[s].begin()));
          }
        }
        CHECK(after[s] == expected);
      }
      CHECK(after[0] != before[0]);
    }
  });
}

TEST_CASE("KV cache: sizes that cannot be had are refused with numbers") {
  for_each_backend("alloc_kv: limits", [&](Backend& backend) {
    // 80 layers x 64 heads x 256 x 2^31 tokens: petabytes.
    const KvCacheSpec huge{80, 64, 256, 64, 1 << 25, DType::f32};
    try {
      backend.alloc_kv(huge);
      FAIL("a cache of petabytes was allocated");
    } catch (const MemoryError& error) {
      const std::string text = error.what();
      CHECK(text.find("GiB") != std::string::npos);
      CHECK(error.code() == ExitCode::memory);
    }
    constexpr int32_t kMost = 0x7fffffff;
    CHECK_THROWS_AS(backend.alloc_kv({kMost, kMost, kMost, kMost, kMost, DType::f32}), MemoryError);
    for (const KvCacheSpec& bad :
         {KvCacheSpec{0, 1, 16, 16, 4, DType::f32}, KvCacheSpec{1, -1, 16, 16, 4, DType::f32}, KvCacheSpec{1, 1, 16, 16, 0, DType::f32}}) {
      CHECK_THROWS_AS(backend.alloc_kv(bad), Error);
    }
  });
}

TEST_CASE("KV cache: the CPU's takes memory only where it is written") {
  const auto resident = [] {
    size_t pages = 0, total = 0;
    std::ifstream("/proc/self/statm") >> total >> pages;
    return pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  };
  const auto backend = cpu_with_threads(1);
  const size_t before = resident();
  const KvCacheSpec spec{4, 2, 64, 16, 1 << 14, DType::f32};  // 1 GiB
  const auto cache = backend->alloc_kv(spec);
  REQUIRE(spec.bytes() == size_t{1} << 30);
  KvWriter writer(*backend, *cache);
  const std::vector<float> ones(3 * 128, 1.0f);
  for (int32_t layer = 0; layer < 4; ++layer) writer.write(layer, {0, 100 * 16, 16000 * 16 + 5}, ones, ones);
  CHECK(resident() < before + (size_t{40} << 20));
}
