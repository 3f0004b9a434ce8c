#include <cmath>
#include <cstring>
#include <vector>

#include "catch.h"
#include "core/error.h"
#include "cpu/cpu_backend.h"
#include "cpu/product_tile.h"
#include "cpu/roofline.h"

using namespace bolide;

namespace {

ModelDims small_dims() { return {.hidden = 64, .mlp = 96, .layers = 2, .heads = 4, .kv_heads = 2, .head_dim = 16, .vocab = 100}; }

}  // namespace

TEST_CASE("the CPU backend says what it is") {
  const auto backend = make_cpu_backend({.threads = 2});
  const DeviceInfo info = backend->info();
  CHECK(info.id == "cpu");
  CHECK(info.name.find("2 threads") != std::string::npos);
  CHECK(info.memory_total > 0);
  CHECK(info.memory_free <= info.memory_total);
  CHECK(backend->activation_dtype() == DType::f32);
  CHECK(backend->default_kv_dtype(DType::bf16) == DType::f32);
  CHECK(cpu_simd_description().find(" (of ") != std::string::npos);
}

TEST_CASE("the CPU backend refuses options that cannot be") {
  CHECK_THROWS_AS(make_cpu_backend({.threads = -1}), UsageError);
  CHECK_THROWS_AS(make_cpu_backend({.threads = 1 << 20}), UsageError);
  if (has_bf16_products()) {
    CHECK(make_cpu_backend({.threads = 1, .bf16_products = true})->info().name.find("bf16 products") != std::string::npos);
  } else {
    CHECK_THROWS_AS(make_cpu_backend({.threads = 1, .bf16_products = true}), Error);
  }
}

TEST_CASE("the CPU backend refuses shapes that its ops cannot compute") {
  const auto backend = make_cpu_backend({.threads = 1});
  backend->require_support(small_dims(), DType::bf16, DType::f32);
  ModelDims odd_head = small_dims(), uneven_groups = small_dims(), empty = small_dims();
  odd_head.head_dim = 15;
  uneven_groups.kv_heads = 3;
  empty.vocab = 0;
  for (const ModelDims& dims : {odd_head, uneven_groups, empty})
    CHECK_THROWS_AS(backend->require_support(dims, DType::bf16, DType::f32), Error);
}

TEST_CASE("buffers are aligned and hold what is uploaded") {
  const auto backend = make_cpu_backend({.threads = 1});
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{1000}, (size_t{4} << 20) + 12}) {
    const auto buffer = backend->alloc(bytes);
    CHECK(buffer->bytes() == bytes);
    REQUIRE(buffer->data() != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(buffer->data()) % 256 == 0);
    std::vector<unsigned char> in(bytes), out(bytes);
    for (size_t i = 0; i < bytes; ++i) in[i] = static_cast<unsigned char>(i * 7);
    backend->upload(buffer->data(), in.data(), bytes);
    backend->sync();
    backend->download(out.data(), buffer->data(), bytes);
    CHECK(in == out);
  }
  CHECK_THROWS_AS(backend->alloc(size_t{1} << 60), MemoryError);
}

TEST_CASE("prepared vectors are widened, joined and offset, whatever their address") {
  const auto backend = make_cpu_backend({.threads = 1});
  const float f32[3] = {1.5f, -2.0f, 0.25f};
  const uint16_t bf16[2] = {f32_to_bf16(3.0f), f32_to_bf16(-0.5f)}, f16[2] = {f32_to_f16(7.0f), f32_to_f16(0.125f)};
  std::vector<std::byte> unaligned(64);
  std::memcpy(unaligned.data() + 2, f32, sizeof f32);
  const TensorView parts[] = {{unaligned.data() + 2, DType::f32, {3}}, {bf16, DType::bf16, {2}}, {f16, DType::f16, {2}}};
  const auto buffer = backend->prepare_vector(parts, 1.0f);
  REQUIRE(buffer->bytes() == 7 * sizeof(float));
  const float want[7] = {2.5f, -1.0f, 1.25f, 4.0f, 0.5f, 8.0f, 1.125f};
  CHECK(std::memcmp(buffer->data(), want, sizeof want) == 0);
}

TEST_CASE("prepared matrices are read in place") {
  const auto backend = make_cpu_backend({.threads = 1});
  const std::vector<uint16_t> values(24);
  const TensorView parts[] = {{values.data(), DType::bf16, {2, 4}}, {values.data() + 8, DType::bf16, {4, 4}}};
  const auto matrix = backend->prepare(parts);
  CHECK(matrix->rows() == 6);
  CHECK(matrix->columns() == 4);
  CHECK(matrix->bytes() == 48);
}

TEST_CASE("the roofline is measured and plausible") {
  ThreadPool pool(2);
  const CpuRoofline roofline = measure_cpu_roofline(pool, size_t{8} << 20);
  CHECK(roofline.read_best > 1e7);
  CHECK(roofline.read_best < 1e14);
  CHECK(roofline.read_median > 0.0);
  CHECK(roofline.read_median <= roofline.read_best);
  CHECK(roofline.fma_best > 1e7);
  CHECK(roofline.fma_best < 1e15);
  CHECK(roofline.fma_median <= roofline.fma_best);
}

TEST_CASE("the read bandwidth is measured again and again in one buffer") {
  ThreadPool pool(2);
  for (const size_t bytes : {size_t{1}, size_t{10} << 20}) {
    CpuReadProbe probe(pool, bytes);
    for (int i = 0; i < 3; ++i) {
      const double rate = probe.measure();
      CHECK(rate > 1e4);
      CHECK(rate < 1e14);
    }
  }
}
