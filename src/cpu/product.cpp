// How a product is divided. A unit is a range of weight rows small enough to stay in a core's L2 while all token rows pass over it in
// tiles of at most six (product_tile.h). Each worker starts with a contiguous share of the units, so that it reads one long stream of
// memory, and steals from the others' ends when it is done (ThreadPool::parallel_for).
//
// Few token rows: the time is that of reading the weights. Every worker norms the rows itself, while its first weights are already on
// their way (the last prefetches of a product are for the next one), which saves a round of the pool.
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
constexpr int64_t kPrefetchBytes = 6 << 10;      // how far ahead of the weights in use
constexpr int64_t kUnitsPerThread = 8;           // at least, so that nobody waits long for the last one
constexpr int64_t kMinTokensPerUnit = 48;
constexpr int64_t kNoteBytes = 64;  // a cache line of its own for every worker

const Streaming kStreaming = streaming();

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

// How a part of a unit is read.
struct Stream {
  int64_t prefetch;  // bytes ahead; 0 = the weights are in cache
  Streaming as;
  const void* next;  // what the worker reads after it
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
    streams_ = rows.tokens <= kTileTokens;
    number_ = ++context.products_run;
    if (streams_ && context.upcoming.matrix) upcoming_ = divide(*context.upcoming.matrix, context.upcoming.parts, 1, context.pool.size());
  }

  void run() {
    const size_t ready_bytes = static_cast<size_t>(rows_.tokens * stride_) * element_;
    const int threads = context_.pool.size();
    const auto copies = static_cast<size_t>(in_place_ ? 0 : per_worker_ ? threads : 1);
    BOLIDE_CHECK(context_.products.bytes >= notes_bytes(threads) + copies * ready_bytes);
    if (!in_place_ && !per_worker_) {
      context_.pool.parallel_for(rows_.tokens, 4, [&](int64_t begin, int64_t end, int) { make_ready(begin, end, scratch(0)); });
    }
    context_.pool.parallel_for(division_.units(), 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t unit = begin; unit < end; ++unit) run_unit(unit, worker);
    });
  }

  static size_t notes_bytes(int threads) { return static_cast<size_t>(threads) * kNoteBytes; }

 private:
  // Scratch: per worker the number of the product whose rows it has last made ready, then the rows, once or once per worker.
  uint64_t& made_ready(int worker) const { return *reinterpret_cast<uint64_t*>(context_.products.data.get() + worker * kNoteBytes); }
  char* scratch(int worker) const {
    return reinterpret_cast<char*>(context_.products.data.get()) + context_.pool.size() * kNoteBytes +
           static_cast<int64_t>(worker) * rows_.tokens * stride_ * static_cast<int64_t>(element_);
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

  ReadyRows ready(int worker) const {
    if (in_place_) return {reinterpret_cast<const char*>(rows_.data), rows_.stride};
    char* to = scratch(per_worker_ ? worker : 0);
    if (per_worker_ && made_ready(worker) != number_) {
      make_ready(0, rows_.tokens, to);
      made_ready(worker) = number_;
    }
    return {to, stride_};
  }

  // Whether `unit` is the last of the contiguous share that parallel_for gives some worker first.
  bool ends_share(int64_t unit) const {
    const int64_t threads = context_.pool.size(), units = division_.units();
    const int64_t worker = ((unit + 1) * threads + units - 1) / units;  // the least one whose share can end here
    return units * worker / threads == unit + 1;
  }

  // Where the worker's reading goes on after a part of a unit: the unit's next part, the next unit, the worker's share of the next product.
  const void* after(int64_t unit, int part, int worker) const {
    const int64_t part_rows = matrix_.rows() / parts_, row_unit = unit / division_.token_units;
    if (part + 1 < parts_) return matrix_.row((part + 1) * part_rows + row_unit * division_.unit_rows);
    if (!ends_share(unit)) return matrix_.row(std::min((row_unit + 1) * division_.unit_rows, part_rows - 1));
    return upcoming_.unit_rows > 0 ? context_.upcoming.matrix->row(upcoming_row(worker)) : nullptr;
  }

  // The first row of the worker's share of the next product, if that has few token rows too.
  int64_t upcoming_row(int worker) const {
    const int64_t part_rows = context_.upcoming.matrix->rows() / context_.upcoming.parts;
    return std::min(upcoming_.row_units * worker / context_.pool.size() * upcoming_.unit_rows, part_rows - 1);
  }

  void run_unit(int64_t unit, int worker) const {
    const int64_t part_rows = matrix_.rows() / parts_;
    const int64_t row = unit / division_.token_units * division_.unit_rows;
    const int64_t rows = std::min(division_.unit_rows, part_rows - row);
    const int64_t range = unit % division_.token_units;
    const int64_t first = rows_.tokens * range / division_.token_units, last = rows_.tokens * (range + 1) / division_.token_units;
    const ReadyRows a = ready(worker);
    const int64_t tiles = ceil_div(last - first, kTileTokens);
    alignas(64) float c[2][kTileTokens * kTileRows];
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t token = first + (last - first) * i / tiles, end = first + (last - first) * (i + 1) / tiles;
      ProductPiece piece{
          static_cast<int32_t>(token), static_cast<int32_t>(end - token), row, static_cast<int32_t>(rows), {c[0], c[1]}, kTileRows};
      for (int part = 0; part < parts_; ++part) {
        Stream stream{i > 0 ? 0 : kPrefetchBytes, {PrefetchInto::l1, false}, nullptr};
        if (streams_) stream = {kPrefetchBytes, kStreaming, after(unit, part, worker)};
        multiply(a.data + token * a.stride * static_cast<int64_t>(element_), a.stride, part * part_rows + row, piece, c[part], stream);
      }
      sink_(piece);
    }
  }

  // Rows [row, row + piece.rows) of the matrix, which may lie in several checkpoint tensors.
  void multiply(const char* a, int64_t stride, int64_t row, const ProductPiece& piece, float* c, const Stream& stream) const {
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
      if (bf16_) {
        product_tile_bf16({reinterpret_cast<const uint16_t*>(a), stride, piece.tokens, w, static_cast<int>(n), matrix_.columns(), to,
                           kTileRows, stream.prefetch, stream.as.into == PrefetchInto::l2});
      } else {
        product_tile({reinterpret_cast<const float*>(a), stride, piece.tokens, w, matrix_.dtype(), static_cast<int>(n), matrix_.columns(),
                      to, kTileRows, stream.prefetch, stream.as.into, stream.as.four_streams,
                      row + n < end ? tensors[i + 1].data : stream.next});
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
  Division upcoming_{};  // of the next product
  size_t element_;
  bool in_place_, per_worker_;
  bool streams_;  // few token rows: every weight is used once
  uint64_t number_ = 0;
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
  return static_cast<size_t>(rows * round_up(columns, 16)) * sizeof(float) + Product::notes_bytes(threads);
}

size_t cpu_products_scratch(const StepCapacity& capacity, const ModelDims& dims, int threads) {
  const int64_t columns =
      std::max({static_cast<int64_t>(dims.hidden), static_cast<int64_t>(dims.mlp), static_cast<int64_t>(dims.heads) * dims.head_dim});
  return run_product_scratch(std::max(capacity.tokens, capacity.logit_rows), columns, threads) + norm_qkv_scratch(capacity.tokens, dims) +
         64;
}

}  // namespace bolide
