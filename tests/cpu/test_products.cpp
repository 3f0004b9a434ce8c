// The matrix products against double precision: every SIMD target, dtype, odd shape, unaligned address and thread count.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "catch.h"
#include "core/error.h"
#include "cpu/product.h"
#include "cpu/product_tile.h"
#include "cpu/simd_each.h"

using namespace bolide;

namespace {

constexpr double kHalfUlp = 0x1p-24;

// Bytes that end right before a page that may not be read, so that a read past the end is a crash.
class GuardedBytes {
 public:
  explicit GuardedBytes(size_t bytes)
      : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))), whole_((bytes + page_ - 1) / page_ * page_ + page_) {
    void* base = mmap(nullptr, whole_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(base != MAP_FAILED);
    base_ = static_cast<std::byte*>(base);
    REQUIRE(mprotect(base_ + whole_ - page_, page_, PROT_NONE) == 0);
    data_ = base_ + whole_ - page_ - bytes;
  }
  ~GuardedBytes() { munmap(base_, whole_); }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  std::byte* data() const { return data_; }

 private:
  size_t page_, whole_;
  std::byte* base_ = nullptr;
  std::byte* data_ = nullptr;
};

// Random weights [rows, columns], stored and as double.
struct Weights {
  Weights(int64_t row_count, int64_t column_count, DType type, uint32_t seed)
      : rows(row_count), columns(column_count), dtype(type), bytes(static_cast<size_t>(row_count * column_count) * dtype_size(type)) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal(0.0f, 0.5f);
    for (int64_t i = 0; i < rows * columns; ++i) {
      const float value = normal(engine);
      std::byte* to = bytes.data() + static_cast<size_t>(i) * dtype_size(dtype);
      if (dtype == DType::f32) {
        std::memcpy(to, &value, 4);
        exact.push_back(value);
      } else {
        const uint16_t bits = dtype == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value);
        std::memcpy(to, &bits, 2);
        exact.push_back(dtype == DType::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits));
      }
    }
  }
  TensorView view() const { return {bytes.data(), dtype, {rows, columns}}; }
  int64_t rows, columns;
  DType dtype;
  GuardedBytes bytes;
  std::vector<double> exact;
};

std::vector<float> random_rows(int64_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& value : out) value = normal(engine);
  return out;
}

// Compares a sum with the exact one. The bound follows from the summation: lanes and column blocks make chains of at most
// columns / 4 + 16 additions, whose rounding errors add up like a random walk (factor 6 for safety).
void check_sum(float got, const double* w, const double* a, int64_t columns) {
  double want = 0.0, magnitude = 0.0;
  for (int64_t k = 0; k < columns; ++k) {
    want += w[k] * a[k];
    magnitude += std::abs(w[k] * a[k]);
  }
  const double bound = 6.0 * kHalfUlp * std::sqrt(static_cast<double>(columns) + 16.0) * magnitude;
  if (!(std::abs(got - want) <= bound)) {
    INFO("got " << got << ", want " << want << ", bound " << bound);
    REQUIRE(std::abs(got - want) <= bound);
  }
}

const DType kDtypes[] = {DType::f32, DType::f16, DType::bf16};

ProductTile tile_of(const Weights& w, const float* a, int tokens, float* c, int64_t prefetch) {
  return {a, w.columns, tokens, w.bytes.data(), w.dtype, static_cast<int>(w.rows), w.columns, c, kTileRows, prefetch};
}

struct Pool {
  Pool(int threads, bool bf16 = false) : pool(threads), context{pool, {}, {}} { context.bf16_products = bf16; }
  void reserve(int64_t tokens, int64_t columns) {
    const size_t bytes = run_product_scratch(tokens, columns, pool.size());
    context.products.data = {static_cast<std::byte*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)), [](void* p) { std::free(p); }};
    context.products.bytes = bytes;
    std::memset(context.products.data.get(), 0xff, bytes);  // NaN
  }
  ThreadPool pool;
  CpuContext context;
};

// [tokens, rows] by run_product; NaN where no piece arrived, infinity where two did.
std::vector<float> product(Pool& pool, const CpuMatrix& matrix, int parts, const ProductRows& rows) {
  std::vector<float> out(static_cast<size_t>(rows.tokens * matrix.rows()), std::numeric_limits<float>::quiet_NaN());
  const int64_t part_rows = matrix.rows() / parts;
  run_product(pool.context, matrix, parts, rows, [&](const ProductPiece& piece) {
    for (int part = 0; part < parts; ++part) {
      for (int32_t t = 0; t < piece.tokens; ++t) {
        for (int32_t r = 0; r < piece.rows; ++r) {
          float& to = out[static_cast<size_t>((piece.token + t) * matrix.rows() + part * part_rows + piece.row + r)];
          to = std::isnan(to) ? piece.c[part][t * piece.stride + r] : std::numeric_limits<float>::infinity();
        }
      }
    }
  });
  return out;
}

}  // namespace

TEST_CASE("a tile agrees with double: every target, dtype, number of rows and tokens") {
  for_each_simd_target([](const std::string& target) {
    for (const DType dtype : kDtypes) {
      for (const int64_t columns : {1, 5, 16, 31, 64, 577, 1024, 1025, 2100}) {
        for (const int rows : {1, 2, 3, 4, 7, 12}) {
          const Weights w(rows, columns, dtype, static_cast<uint32_t>(columns * 10 + rows));
          const auto a = random_rows(kTileTokens * columns, 9);
          const std::vector<double> exact(a.begin(), a.end());
          for (int tokens = 1; tokens <= kTileTokens; ++tokens) {
            INFO(target << ", " << dtype_name(dtype) << ", [" << rows << ", " << columns << "], " << tokens << " tokens");
            std::vector<float> c(kTileTokens * kTileRows), cached(kTileTokens * kTileRows);
            product_tile(tile_of(w, a.data(), tokens, c.data(), 8192));
            product_tile(tile_of(w, a.data(), tokens, cached.data(), 0));
            for (int t = 0; t < tokens; ++t) {
              for (int r = 0; r < rows; ++r) {
                const auto at = static_cast<size_t>(t * kTileRows + r);
                check_sum(c[at], w.exact.data() + r * columns, exact.data() + t * columns, columns);
                REQUIRE(c[at] == cached[at]);
              }
            }
          }
        }
      }
    }
  });
}

TEST_CASE("how weights are streamed changes no bit") {
  for_each_simd_target([](const std::string& target) {
    for (const DType dtype : kDtypes) {
      for (const int64_t columns : {3, 33, 576, 1536, 9001}) {  // the last has more column blocks than wait for their fold at once
        for (const int rows : {1, 4, 6, 13}) {
          const Weights w(rows, columns, dtype, static_cast<uint32_t>(columns + rows));
          const auto a = random_rows(2 * columns, 12);
          for (const int tokens : {1, 2}) {
            std::vector<float> want(kTileTokens * kTileRows), got(kTileTokens * kTileRows);
            product_tile(tile_of(w, a.data(), tokens, want.data(), 0));
            for (const int64_t prefetch : {1, 64, 700, 6144, 1 << 20}) {
              for (const int way : {0, 1, 2, 3}) {
                for (const void* next : {static_cast<const void*>(nullptr), static_cast<const void*>(a.data())}) {
                  INFO(target << ", " << dtype_name(dtype) << ", [" << rows << ", " << columns << "], prefetch " << prefetch);
                  ProductTile tile = tile_of(w, a.data(), tokens, got.data(), prefetch);
                  tile.into =
                      std::array{PrefetchInto::l1, PrefetchInto::l1_once, PrefetchInto::l2, PrefetchInto::l1}[static_cast<size_t>(way)];
                  tile.four_streams = way == 3;
                  tile.next = next;
                  product_tile(tile);
                  for (int t = 0; t < tokens; ++t) {
                    for (int r = 0; r < rows; ++r)
                      REQUIRE(got[static_cast<size_t>(t * kTileRows + r)] == want[static_cast<size_t>(t * kTileRows + r)]);
                  }
                }
              }
            }
          }
        }
      }
    }
  });
}

TEST_CASE("a token's sums are the same bits alone and with others, a row's at any place") {
  for_each_simd_target([](const std::string& target) {
    INFO(target);
    for (const DType dtype : kDtypes) {
      const int64_t columns = 1391;
      const Weights w(13, columns, dtype, 1);
      const auto a = random_rows(kTileTokens * columns, 2);
      std::vector<float> together(kTileTokens * kTileRows), alone(kTileTokens * kTileRows);
      product_tile(tile_of(w, a.data(), kTileTokens, together.data(), 0));
      for (int t = 0; t < kTileTokens; ++t) {
        for (int first = 0; first < 13; first += 3) {
          ProductTile one = tile_of(w, a.data() + t * columns, 1, alone.data(), 4096);
          one.w = w.bytes.data() + static_cast<size_t>(first * columns) * dtype_size(dtype);
          one.rows = std::min(3, 13 - first);
          product_tile(one);
          for (int r = 0; r < one.rows; ++r)
            REQUIRE(alone[static_cast<size_t>(r)] == together[static_cast<size_t>(t * kTileRows + first + r)]);
        }
      }
    }
  });
}

TEST_CASE("NaN and infinity in one row stay in that row") {
  for_each_simd_target([](const std::string& target) {
    INFO(target);
    const int64_t columns = 45;
    const Weights w(5, columns, DType::bf16, 3);
    auto a = random_rows(3 * columns, 4);
    a[static_cast<size_t>(columns + 44)] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> c(kTileTokens * kTileRows);
    product_tile(tile_of(w, a.data(), 3, c.data(), 0));
    for (int r = 0; r < 5; ++r) {
      CHECK(std::isfinite(c[static_cast<size_t>(r)]));
      CHECK(std::isnan(c[static_cast<size_t>(kTileRows + r)]));
      CHECK(std::isfinite(c[static_cast<size_t>(2 * kTileRows + r)]));
    }
  });
}

TEST_CASE("weights may lie at any address that is a multiple of two") {
  for_each_simd_target([](const std::string& target) {
    for (const DType dtype : kDtypes) {
      for (const size_t shift : {2u, 6u, 10u, 62u}) {
        INFO(target << ", " << dtype_name(dtype) << ", shifted by " << shift);
        const int64_t columns = 83;
        const Weights w(6, columns, dtype, 5);
        const size_t bytes = static_cast<size_t>(6 * columns) * dtype_size(dtype);
        std::vector<std::byte> moved(bytes + 64);
        std::memcpy(moved.data() + shift, w.bytes.data(), bytes);
        const auto a = random_rows(2 * columns, 6);
        std::vector<float> want(kTileTokens * kTileRows), got(kTileTokens * kTileRows);
        product_tile(tile_of(w, a.data(), 2, want.data(), 0));
        ProductTile tile = tile_of(w, a.data(), 2, got.data(), 0);
        tile.w = moved.data() + shift;
        product_tile(tile);
        for (int t = 0; t < 2; ++t) {
          for (int r = 0; r < 6; ++r) REQUIRE(got[static_cast<size_t>(t * kTileRows + r)] == want[static_cast<size_t>(t * kTileRows + r)]);
        }
      }
    }
  });
}

TEST_CASE("a product of stacked tensors agrees with double for any threads, tokens and rows") {
  const int64_t columns = 203;
  for (const DType dtype : kDtypes) {
    const Weights q(131, columns, dtype, 1), k(3, columns, dtype, 2), v(66, columns, dtype, 3);
    const TensorView views[] = {q.view(), k.view(), v.view()};
    const CpuMatrix matrix(views);
    std::vector<double> exact = q.exact;
    exact.insert(exact.end(), k.exact.begin(), k.exact.end());
    exact.insert(exact.end(), v.exact.begin(), v.exact.end());
    const auto a = random_rows(120 * columns, 7);
    const std::vector<double> exact_a(a.begin(), a.end());
    std::vector<float> first_token;
    for (const int threads : {1, 2, 3}) {
      Pool pool(threads);
      pool.reserve(120, columns);
      for (const int32_t tokens : {1, 2, 4, 5, 6, 7, 13, 49, 120}) {
        for (const int parts : {1, 2}) {
          INFO(dtype_name(dtype) << ", " << threads << " threads, " << tokens << " tokens, " << parts << " parts");
          const auto out = product(pool, matrix, parts, {a.data(), columns, tokens});
          for (int32_t t = 0; t < tokens; ++t) {
            for (int64_t r = 0; r < matrix.rows(); ++r) {
              check_sum(out[static_cast<size_t>(t * matrix.rows() + r)], exact.data() + r * columns, exact_a.data() + t * columns, columns);
            }
          }
          const std::vector<float> token(out.begin(), out.begin() + matrix.rows());
          if (first_token.empty()) first_token = token;
          REQUIRE(token == first_token);  // same bits whatever the division
        }
      }
    }
    first_token.clear();
  }
}

TEST_CASE("a product norms its rows first and picks them by index") {
  const int64_t columns = 150;
  const Weights w(70, columns, DType::bf16, 1);
  const TensorView views[] = {w.view()};
  const CpuMatrix matrix(views);
  const auto x = random_rows(20 * columns, 2), norm = random_rows(columns, 3);
  const float eps = 1e-5f;
  for (const int threads : {1, 3}) {
    Pool pool(threads);
    pool.reserve(20, columns);
    for (const std::vector<int32_t>& index : {std::vector<int32_t>{19}, {3, 0, 3}, {0, 19, 4, 4, 7, 1, 2, 18, 11}}) {
      INFO(threads << " threads, " << index.size() << " rows");
      ProductRows rows{x.data(), columns, static_cast<int32_t>(index.size()), index.data(), norm.data(), eps};
      const auto out = product(pool, matrix, 1, rows);
      for (size_t t = 0; t < index.size(); ++t) {
        const float* row = x.data() + index[t] * columns;
        double squares = 0.0;
        for (int64_t k = 0; k < columns; ++k) squares += static_cast<double>(row[k]) * row[k];
        std::vector<double> normed;
        for (int64_t k = 0; k < columns; ++k) normed.push_back(row[k] / std::sqrt(squares / columns + eps) * norm[static_cast<size_t>(k)]);
        for (int64_t r = 0; r < 70; ++r)
          check_sum(out[t * 70 + static_cast<size_t>(r)], w.exact.data() + r * columns, normed.data(), columns);
      }
    }
  }
}

TEST_CASE("an empty step does nothing") {
  const Weights w(5, 8, DType::f32, 1);
  const TensorView views[] = {w.view()};
  Pool pool(2);
  CHECK(product(pool, CpuMatrix(views), 1, {nullptr, 8, 0}).empty());
}

TEST_CASE("products in bf16 round the activations once and nothing else") {
  if (!has_bf16_products()) {
    WARN("skipped: this CPU has no AVX-512 BF16");
    return;
  }
  for (const int64_t columns : {1, 31, 64, 577, 2100, 4600}) {
    const Weights w(21, columns, DType::bf16, 1);
    const TensorView views[] = {w.view()};
    const CpuMatrix matrix(views);
    const auto x = random_rows(11 * columns, 2), norm = random_rows(columns, 3);
    Pool pool(2, true), alone(1, true);
    pool.reserve(11, columns);
    alone.reserve(11, columns);
    for (const int32_t tokens : {1, 2, 3, 4, 5, 6, 11}) {
      INFO(columns << " columns, " << tokens << " tokens");
      const auto out = product(pool, matrix, 1, {x.data(), columns, tokens});
      std::vector<double> rounded;
      for (const float value : x) rounded.push_back(bf16_to_f32(f32_to_bf16(value)));
      for (int32_t t = 0; t < tokens; ++t) {
        const auto single = product(alone, matrix, 1, {x.data() + t * columns, columns, 1});
        for (int64_t r = 0; r < 21; ++r) {
          const float got = out[static_cast<size_t>(t * 21 + r)];
          check_sum(got, w.exact.data() + r * columns, rounded.data() + t * columns, columns);
          REQUIRE(got == single[static_cast<size_t>(r)]);
        }
      }
      // With a norm the rounding comes after it: close to the exact product of the same rows.
      Pool exact(1);
      exact.reserve(11, columns);
      const ProductRows normed{x.data(), columns, tokens, nullptr, norm.data(), 1e-6f};
      const auto with_norm = product(pool, matrix, 1, normed), want = product(exact, matrix, 1, normed);
      double error = 0.0, size = 0.0;
      for (size_t i = 0; i < want.size(); ++i) {
        error += std::pow(with_norm[i] - want[i], 2);
        size += std::pow(want[i], 2);
      }
      CHECK(std::sqrt(error) <= 0x1p-8 * std::sqrt(size) + 1e-6);
    }
  }
}

TEST_CASE("a matrix stacks tensors in place and refuses those that do not fit together") {
  const Weights a(3, 8, DType::bf16, 1), b(2, 8, DType::bf16, 2), narrow(2, 7, DType::bf16, 3), other(2, 8, DType::f16, 4);
  const TensorView views[] = {a.view(), b.view()};
  const CpuMatrix matrix(views);
  CHECK(matrix.rows() == 5);
  CHECK(matrix.columns() == 8);
  CHECK(matrix.bytes() == 80);
  CHECK(matrix.row(2) == a.bytes.data() + 32);
  CHECK(matrix.row(3) == b.bytes.data());
  CHECK_THROWS_AS(matrix.row(5), std::exception);
  CHECK_THROWS_AS(matrix.row(-1), std::exception);
  const TensorView widths[] = {a.view(), narrow.view()}, dtypes[] = {a.view(), other.view()};
  CHECK_THROWS_AS(CpuMatrix(widths), ModelError);
  CHECK_THROWS_AS(CpuMatrix(dtypes), ModelError);
}
