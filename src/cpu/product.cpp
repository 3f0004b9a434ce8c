// How a product is divided. A unit is a range of weight rows small enough to stay in a core's L2 while all token rows pass over it in
// tiles of at most six (product_tile.h). Each worker starts with a contiguous share of the units, so that it reads one long stream of
// memory, and steals from the others' ends when it is done (ThreadPool::parallel_for).
//
// Few token rows: the time is that of reading the weights. Every worker norms the rows itself, while its first weights are already on
// their way, which saves a round of the pool.
// Many token rows: the time is that of the multiplications. Units are as large as L2 allows.
#include "cpu/product.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "cpu/norm_qkv.h"
#include "cpu/product_tile.h"
#include "cpu/vector_ops.h"

namespace bolide {
namespace {

constexpr int64_t kFewTokens = 4;                // up to here every worker norms the rows itself
constexpr int64_t kStreamUnitBytes = 128 << 10;  // of weights of a part, with few token rows
constexpr int64_t kCachedUnitBytes = 256 << 10;  // of weights of all parts, with many
constexpr int64_t kPrefetchBytes = 12 << 10;     // how far ahead of the weights in use
constexpr int64_t kFirstPrefetchBytes = 16 << 10;
constexpr int64_t kUpcomingBytes = 64 << 10;  // of the next product's weights, per worker
constexpr int64_t kUnitsPerThread = 8;  // at least, so that nobody waits long for the last one
constexpr int64_t kMinTokensPerUnit = 48;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

struct Division {
  int64_t unit_rows, row_units;  // rows of each part
  int64_t token_units;           // token rows are cut evenly into so many ranges
  int64_t units() const { return row_units * token_units; }
};

Division divide(const CpuMatrix& matrix, int parts, int64_t tokens, int threads) {
  const int64_t rows = matrix.rows() / parts;
  const int64_t row_bytes = std::max<int64_t>(1, matrix.columns() * static_cast<int64_t>(dtype_size(matrix.dtype())));
  const bool few = tokens <= kTileTokens;
  int64_t unit = (few ? kStreamUnitBytes : kCachedUnitBytes / parts) / row_bytes;
  if (threads > 1) unit = std::min(unit, ceil_div(rows, threads * kUnitsPerThread));
  unit = std::clamp<int64_t>(round_up(std::max<int64_t>(unit, 1), 4), few ? 4 : 16, kTileRows);
  Division division{unit, ceil_div(rows, unit), 1};
  if (threads > 1) {
    const int64_t wanted = ceil_div(threads * kUnitsPerThread, division.row_units);
    division.token_units = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(1, tokens / kMinTokensPerUnit));
  }
  return division;
}

// Token rows ready for the tiles: f32 where they were, or normed (or rounded to bf16) in scratch.
struct ReadyRows {
  const char* data;
  int64_t stride;  // in elements
};

class Product {
 public:
  Product(CpuContext& context, const CpuMatrix& matrix, int parts, const ProductRows& rows,
          const std::function<void(const ProductPiece&)>& sink)
      : context_(context),
        matrix_(matrix),
        parts_(parts),
        rows_(rows),
        sink_(sink),
        bf16_(context.bf16_products && matrix.dtype() == DType::bf16),
        division_(divide(matrix, parts, rows.tokens, context.pool.size())) {
    element_ = bf16_ ? sizeof(uint16_t) : sizeof(float);
    in_place_ = !bf16_ && !rows.norm && !rows.row_index;
    per_worker_ = !in_place_ && rows.tokens <= kFewTokens;
    stride_ = round_up(matrix.columns(), 16);
  }

  void run() {
    const size_t ready_bytes = static_cast<size_t>(rows_.tokens * stride_) * element_;
    const int threads = context_.pool.size();
    if (!in_place_)
      BOLIDE_CHECK(context_.products.bytes >= ready_bytes * static_cast<size_t>(per_worker_ ? threads : 1) + flag_bytes(threads));
    if (per_worker_) {
      for (int w = 0; w < threads; ++w) *flag(w) = 0;
    } else if (!in_place_) {
      context_.pool.parallel_for(rows_.tokens, 4, [&](int64_t begin, int64_t end, int) { make_ready(begin, end, scratch(0)); });
    }
    context_.pool.parallel_for(division_.units(), 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t unit = begin; unit < end; ++unit) {
        run_unit(unit, worker);
        if (rows_.tokens <= kFewTokens && ends_share(unit)) prefetch_upcoming(worker);
      }
    });
  }

  static size_t flag_bytes(int threads) { return static_cast<size_t>(threads) * 64; }

 private:
  // Scratch: a flag per worker on a cache line of its own ("has its rows"), then the rows, once or once per worker.
  char* flag(int worker) const { return reinterpret_cast<char*>(context_.products.data.get()) + worker * 64; }
  char* scratch(int worker) const {
    return flag(context_.pool.size()) + static_cast<int64_t>(worker) * rows_.tokens * stride_ * static_cast<int64_t>(element_);
  }

  void make_ready(int64_t begin, int64_t end, char* to) const {
    const int64_t columns = matrix_.columns();
    float block[kColumnBlock];
    for (int64_t t = begin; t < end; ++t) {
      const float* x = rows_.data + (rows_.row_index ? rows_.row_index[t] : t) * rows_.stride;
      char* out = to + t * stride_ * static_cast<int64_t>(element_);
      if (!bf16_) {
        if (rows_.norm)
          rms_norm(x, rows_.norm, rows_.norm_eps, columns, reinterpret_cast<float*>(out));
        else
          std::memcpy(out, x, static_cast<size_t>(columns) * sizeof(float));
        continue;
      }
      const float scale = rows_.norm ? rms_scale(x, rows_.norm_eps, columns) : 1.0f;
      for (int64_t k = 0; k < columns; k += kColumnBlock) {
        const int64_t n = std::min<int64_t>(kColumnBlock, columns - k);
        const float* from = x + k;
        if (rows_.norm) {
          scale_by(x + k, rows_.norm + k, scale, n, block);
          from = block;
        }
        store_rounded(from, n, DType::bf16, out + 2 * k);
      }
    }
  }

  ReadyRows ready(int worker, int64_t unit) const {
    if (in_place_) return {reinterpret_cast<const char*>(rows_.data), rows_.stride};
    char* to = scratch(per_worker_ ? worker : 0);
    if (per_worker_ && !*flag(worker)) {
      prefetch_first(unit);
      make_ready(0, rows_.tokens, to);
      *flag(worker) = 1;
    }
    return {to, stride_};
  }

  // The rows first, as the norm waits for them (another core has just written them), then the weights that come after it.
  void prefetch_first(int64_t unit) const {
    const auto prefetch = [](const void* from, int64_t bytes) {
      const auto address = reinterpret_cast<uintptr_t>(from);
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(reinterpret_cast<const void*>(address + static_cast<uintptr_t>(at)));
    };
    for (int32_t t = 0; t < rows_.tokens; ++t) {
      const int64_t row_bytes = matrix_.columns() * static_cast<int64_t>(sizeof(float));
      prefetch(rows_.data + (rows_.row_index ? rows_.row_index[t] : t) * rows_.stride, std::min(row_bytes, kFirstPrefetchBytes));
    }
    const int64_t row = unit / division_.token_units * division_.unit_rows;
    for (int part = 0; part < parts_; ++part) prefetch(matrix_.row(part * (matrix_.rows() / parts_) + row), kFirstPrefetchBytes / parts_);
  }

  // Whether `unit` is the last of the contiguous share that parallel_for gives some worker first.
  bool ends_share(int64_t unit) const {
    const int64_t threads = context_.pool.size(), units = division_.units();
    const int64_t worker = ((unit + 1) * threads + units - 1) / units;  // the least one whose share can end here
    return units * worker / threads == unit + 1;
  }

  // The start of the worker's share of the next product, into its L2.
  void prefetch_upcoming(int worker) const {
    if (!context_.upcoming.matrix) return;
    const CpuMatrix& next = *context_.upcoming.matrix;
    const int64_t part_rows = next.rows() / context_.upcoming.parts;
    const int64_t row = part_rows * worker / context_.pool.size(), row_end = part_rows * (worker + 1) / context_.pool.size();
    const int64_t row_bytes = next.columns() * static_cast<int64_t>(dtype_size(next.dtype()));
    const int64_t bytes = std::min((row_end - row) * row_bytes, kUpcomingBytes / context_.upcoming.parts);
    if (bytes <= 0) return;
    for (int part = 0; part < context_.upcoming.parts; ++part) {
      const auto address = reinterpret_cast<uintptr_t>(next.row(part * part_rows + row));
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(reinterpret_cast<const void*>(address + static_cast<uintptr_t>(at)), 0, 2);
    }
  }

  void run_unit(int64_t unit, int worker) const {
    const int64_t part_rows = matrix_.rows() / parts_;
    const int64_t row = unit / division_.token_units * division_.unit_rows;
    const int64_t rows = std::min(division_.unit_rows, part_rows - row);
    const int64_t range = unit % division_.token_units;
    const int64_t first = rows_.tokens * range / division_.token_units, last = rows_.tokens * (range + 1) / division_.token_units;
    const ReadyRows a = ready(worker, unit);
    const int64_t tiles = ceil_div(last - first, kTileTokens);
    alignas(64) float c[2][kTileTokens * kTileRows];
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t token = first + (last - first) * i / tiles, end = first + (last - first) * (i + 1) / tiles;
      ProductPiece piece{
          static_cast<int32_t>(token), static_cast<int32_t>(end - token), row, static_cast<int32_t>(rows), {c[0], c[1]}, kTileRows};
      for (int part = 0; part < parts_; ++part) {
        multiply(a.data + token * a.stride * static_cast<int64_t>(element_), a.stride, part * part_rows + row, piece, c[part], i == 0);
      }
      sink_(piece);
    }
  }

  // Rows [row, row + piece.rows) of the matrix, which may lie in several checkpoint tensors.
  void multiply(const char* a, int64_t stride, int64_t row, const ProductPiece& piece, float* c, bool from_memory) const {
    const std::vector<CpuMatrix::Part>& tensors = matrix_.parts();
    const int64_t end = row + piece.rows, row_bytes = matrix_.columns() * static_cast<int64_t>(dtype_size(matrix_.dtype()));
    float part_c[kTileTokens * kTileRows];
    int64_t column = 0;
    for (size_t i = 0; row < end; ++i) {
      const CpuMatrix::Part& tensor = tensors[i];
      if (row >= tensor.first_row + tensor.rows) continue;
      const int64_t n = std::min(end, tensor.first_row + tensor.rows) - row;
      const void* w = static_cast<const char*>(tensor.data) + (row - tensor.first_row) * row_bytes;
      // A tile writes whole quads of rows: one that ends elsewhere goes through a buffer.
      const bool direct = column % 4 == 0 && (n % 4 == 0 || row + n == end);
      float* to = direct ? c + column : part_c;
      const int64_t prefetch = from_memory ? kPrefetchBytes : 0;
      if (bf16_) {
        product_tile_bf16({reinterpret_cast<const uint16_t*>(a), stride, piece.tokens, w, static_cast<int>(n), matrix_.columns(), to,
                           kTileRows, prefetch});
      } else {
        product_tile({reinterpret_cast<const float*>(a), stride, piece.tokens, w, matrix_.dtype(), static_cast<int>(n), matrix_.columns(),
                      to, kTileRows, prefetch});
      }
      for (int t = 0; !direct && t < piece.tokens; ++t) std::copy_n(part_c + t * kTileRows, n, c + t * kTileRows + column);
      column += n;
      row += n;
    }
  }

  CpuContext& context_;
  const CpuMatrix& matrix_;
  const int parts_;
  const ProductRows& rows_;
  const std::function<void(const ProductPiece&)>& sink_;
  const bool bf16_;
  const Division division_;
  size_t element_;
  bool in_place_, per_worker_;
  int64_t stride_;
};

}  // namespace

void run_product(CpuContext& context, const CpuMatrix& matrix, int parts, const ProductRows& rows,
                 const std::function<void(const ProductPiece&)>& sink) {
  BOLIDE_CHECK((parts == 1 || parts == 2) && matrix.rows() % parts == 0);
  if (rows.tokens <= 0 || matrix.rows() == 0) return;
  Product(context, matrix, parts, rows, sink).run();
}

size_t run_product_scratch(int64_t tokens, int64_t columns, int threads) {
  const int64_t rows = std::max(tokens, std::min(tokens, kFewTokens) * threads);
  return static_cast<size_t>(rows * round_up(columns, 16)) * sizeof(float) + Product::flag_bytes(threads);
}

size_t cpu_products_scratch(const StepCapacity& capacity, const ModelDims& dims, int threads) {
  const int64_t columns =
      std::max({static_cast<int64_t>(dims.hidden), static_cast<int64_t>(dims.mlp), static_cast<int64_t>(dims.heads) * dims.head_dim});
  return run_product_scratch(std::max(capacity.tokens, capacity.logit_rows), columns, threads) + norm_qkv_scratch(capacity.tokens, dims) +
         64;
}

}  // namespace bolide
