#include <unistd.h>

#include <fstream>

#include "catch.h"
#include "core/error.h"
#include "fixture.h"

using namespace bolide;
using namespace bolide::ops_test;

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
