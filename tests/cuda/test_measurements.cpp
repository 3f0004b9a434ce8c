// What measures the device: uploads, times per op, clocks, the comparison of norm_qkv. Not how fast, but that the figures mean what they
// say.
#include <cmath>
#include <memory>
#include <thread>

#include "catch.h"
#include "core/error.h"
#include "cuda/nvml.h"
#include "cuda/upload.h"
#include "gpu.h"

using namespace bolide;
using namespace bolide::cuda_test;

TEST_CASE("uploads by threads bring every byte, rows padded with zeros") {
  const auto backend = gpu("uploads by threads bring every byte, rows padded with zeros");
  if (!backend) return;
  struct Case {
    size_t row_bytes, stride_bytes, rows;
  };
  // One piece, several with a rest, padded rows that do not divide a piece, and many small calls at once.
  for (const Case& c : {Case{1 << 20, 1 << 20, 1}, Case{4100, 4100, 5000}, Case{2046, 2048, 9001}, Case{30, 32, 700000}}) {
    CAPTURE(c.row_bytes, c.rows);
    std::vector<unsigned char> from(c.row_bytes * c.rows), back(c.stride_bytes * c.rows);
    for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<unsigned char>((i * 2654435761u) >> 13);
    const auto memory = backend->alloc(back.size());
    const std::vector<unsigned char> poison(back.size(), 0xff);
    backend->upload(memory->data(), poison.data(), poison.size());
    backend->sync();
    Uploader uploader(0);
    uploader.finish();                         // nothing to do
    for (int round = 0; round < 2; ++round) {  // threads end with finish() and start anew
      uploader.rows(memory->data(), c.stride_bytes, from.data(), c.row_bytes, c.rows);
      uploader.finish();
    }
    backend->download(back.data(), memory->data(), back.size());
    bool same = true;
    for (size_t r = 0; r < c.rows; ++r) {
      for (size_t i = 0; i < c.stride_bytes; ++i)
        same = same && back[r * c.stride_bytes + i] == (i < c.row_bytes ? from[r * c.row_bytes + i] : 0);
    }
    CHECK(same);
  }
}

TEST_CASE("an upload that fails says so once, and a matrix may go while its rows are under way") {
  const auto backend = gpu("an upload that fails says so once, and a matrix may go while its rows are under way");
  if (!backend) return;
  Uploader uploader(4096);  // no such device
  std::vector<float> from(1 << 20);
  uploader.rows(from.data(), 4096, from.data(), 4096, 1024);
  CHECK_THROWS_AS(uploader.finish(), Error);
  uploader.finish();
  const std::vector<float> weights(size_t{1} << 22, 1.0f);
  const TensorView view{weights.data(), DType::f32, {1 << 12, 1 << 10}};
  for (int i = 0; i < 3; ++i) backend->prepare({&view, 1}).reset();
  backend->sync();
}

TEST_CASE("a device's state is plausible or unknown") {
  const auto backend = gpu("a device's state is plausible or unknown");
  if (!backend) return;
  const DeviceState state = backend->state();
  CHECK(state.sm_clock_mhz >= 0);
  CHECK(state.sm_clock_mhz <= (state.max_sm_clock_mhz > 0 ? state.max_sm_clock_mhz + 100 : 10000));
  CHECK(state.power_watts >= 0);
  CHECK(state.power_watts < 5000);
  CHECK(nvml_device_state(4096).sm_clock_mhz == 0);
  backend->sync();  // asking for a device that is not there leaves no error behind
}

TEST_CASE("norm_qkv and its plain form agree with double precision") {
  const auto backend = gpu("norm_qkv and its plain form agree with double precision");
  if (!backend) return;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int32_t rows : {1, 3, 8, 40}) {
      const NormQkvComparison c = backend->compare_norm_qkv({512, 6, 2, 64, rows, dtype});
      CAPTURE(dtype_name(dtype), rows, c.op_error, c.plain_error);
      // float32: sums of 512 products, each rounded to 2^-24 of at most 4 or so; bfloat16: inputs and outputs rounded to 2^-9.
      const double tolerance = dtype == DType::f32 ? 2e-5 : 0.1;
      CHECK(c.op_error < tolerance);
      CHECK(c.plain_error < tolerance);
      CHECK(c.op_seconds > 0);
      CHECK(c.plain_seconds > 0);
      CHECK(c.error_rows == std::min(rows, 16));
      CHECK(c.copies * c.weight_bytes > 4 * c.cache_bytes);
    }
  }
  CHECK(backend->activation_dtype() == DType::bf16);
  CHECK_THROWS_AS(backend->compare_norm_qkv({512, 6, 2, 64, 0, DType::bf16}), UsageError);
}
