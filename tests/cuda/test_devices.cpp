#include <cuda_runtime_api.h>

#include "catch.h"
#include "core/error.h"
#include "cuda/architectures.h"
#include "gpu.h"

using namespace bolide;

TEST_CASE("devices or the reason why there are none") {
  const CudaDevices found = cuda_devices();
  CHECK(found.devices.size() + found.problems.size() > 0);
  for (const DeviceInfo& device : found.devices) {
    CHECK(device.id.rfind("cuda:", 0) == 0);
    CHECK(device.memory_total > 0);
  }
  for (const std::string& problem : found.problems) CHECK(problem.find('\n') == std::string::npos);
}

TEST_CASE("the build says what it was compiled for") {
  const std::string text = cuda_build_description();
  CHECK(text.rfind("CUDA ", 0) == 0);
  CHECK(text.find("compiled for ") != std::string::npos);
}

TEST_CASE("architectures of a build: where its code runs, and whether it holds Hopper's own instructions") {
  const Architectures both("80-real,90a-real"), plain("80,90-real");
  CHECK(both.runs_on(8, 6));
  CHECK(both.runs_on(9, 0));
  CHECK_FALSE(both.runs_on(10, 0));
  CHECK(plain.runs_on(10, 0));
  CHECK(both.holds("sm_90a"));
  CHECK_FALSE(plain.holds("sm_90a"));
  CHECK(plain.holds("sm_90"));
}

TEST_CASE("a device that cannot be used is an error that says what to do") {
  // Beyond any machine's devices, so that the case says the same with and without a GPU.
  try {
    make_cuda_backend(4096);
    FAIL("no exception");
  } catch (const Error& error) {
    const std::string text = error.what();
    CHECK(text.find("asked for, but") != std::string::npos);
    CHECK(text.find("--device cpu") != std::string::npos);
    CHECK(error.code() == ExitCode::failed);
  }
}

TEST_CASE("a backend knows its device, and what it cannot do") {
  const auto backend = cuda_test::gpu("a backend knows its device, and what it cannot do");
  if (!backend) return;
  const DeviceInfo info = backend->info();
  CHECK(info.memory_free > 0);
  CHECK(info.memory_free <= info.memory_total);
  ModelDims dims{64, 128, 1, 4, 2, 17, 100};
  CHECK_THROWS_AS(backend->require_support(dims, DType::bf16, DType::bf16), ModelError);
  dims.head_dim = 258;
  CHECK_THROWS_AS(backend->require_support(dims, DType::bf16, DType::bf16), ModelError);
  dims.head_dim = 16;
  backend->require_support(dims, DType::bf16, DType::bf16);
  CHECK_THROWS_AS(backend->alloc(size_t{1} << 50), MemoryError);
  CHECK(backend->alloc(100)->bytes() == 100);  // an allocation that failed leaves no error behind
}

TEST_CASE("scratch has room for an fp8 cache's widened contexts where a kernel reads those, and nothing for them elsewhere") {
  const auto backend = cuda_test::gpu("scratch has room for an fp8 cache's widened contexts");
  if (!backend) return;
  cudaDeviceProp properties{};
  REQUIRE(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  const bool hopper = properties.major == 9 && properties.minor == 0 && compiled_architectures().holds("sm_90a");
  const StepCapacity capacity{2048, 16, 16, 1000, 0, 0};
  const auto extra = [&](int32_t head_dim) {
    ModelDims dims{64, 128, 1, 4, 2, head_dim, 100, DType::bf16};
    const size_t wide = backend->scratch_bytes(capacity, dims);
    dims.kv = DType::f8;
    return backend->scratch_bytes(capacity, dims) - wide;
  };
  CHECK(extra(80) == 0);
  if (hopper) {
    CHECK(extra(64) >= size_t{256} << 20);
    CHECK(extra(128) >= size_t{256} << 20);
  } else {
    CHECK(extra(128) == 0);
  }
}

TEST_CASE("bytes come back as they were sent") {
  const auto backend = cuda_test::gpu("bytes come back as they were sent");
  if (!backend) return;
  // Over several pieces of the upload ring, and reused at once by the caller.
  std::vector<uint32_t> values(7'000'001);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint32_t>(i * 2654435761u);
  const std::vector<uint32_t> sent = values;
  const auto buffer = backend->alloc(values.size() * 4);
  backend->upload(buffer->data(), values.data(), values.size() * 4);
  std::fill(values.begin(), values.end(), 0u);
  backend->download(values.data(), buffer->data(), values.size() * 4);
  CHECK(values == sent);
}
