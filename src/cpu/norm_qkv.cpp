// n = rmsnorm(x) * norm; (q, k, v) = n W^T + bias; q, k = rmsnorm per head (if given); RoPE on q and k; K and V appended to their slots.
// The product's pieces do not end at heads. A count per head tells when its last piece has arrived; the worker that brought it finishes
// the head (norm, RoPE, rounding) for all token rows, so the pool is not called a second time.
#include "cpu/norm_qkv.h"

#include <algorithm>
#include <atomic>

#include "core/error.h"
#include "cpu/kernels.h"
#include "cpu/product.h"
#include "cpu/vector_ops.h"

namespace bolide {
namespace {

using HeadCount = std::atomic<int64_t>;  // elements of the head that have arrived, over all token rows

struct Heads {
  const NormQkvArgs& args;
  int64_t tokens;
  float* q;           // [T, H, Dh]
  float* kv;          // [T, 2 Hkv, Dh]: K heads, then V heads, before norm, RoPE and rounding
  HeadCount* counts;  // [H + 2 Hkv]

  int64_t q_width() const { return static_cast<int64_t>(args.heads) * args.head_dim; }
  int64_t kv_width() const { return 2 * static_cast<int64_t>(args.kv_heads) * args.head_dim; }

  // Copies row t's sums for matrix rows [row, row + rows) to q and kv.
  void store(int64_t t, int64_t row, int64_t rows, float* sums) const {
    if (args.bias) add(sums, args.bias + row, rows);
    const int64_t to_q = std::clamp<int64_t>(q_width() - row, 0, rows);
    if (to_q > 0) std::copy_n(sums, to_q, q + t * q_width() + row);
    if (to_q < rows) std::copy_n(sums + to_q, rows - to_q, kv + t * kv_width() + (row + to_q - q_width()));
  }

  void arrived(const ProductPiece& piece) const {
    const int64_t head_dim = args.head_dim, end = piece.row + piece.rows;
    for (int64_t row = piece.row; row < end;) {
      const int64_t head = row / head_dim, stop = std::min(end, (head + 1) * head_dim);
      const int64_t elements = (stop - row) * piece.tokens;
      if (counts[head].fetch_add(elements, std::memory_order_acq_rel) + elements == head_dim * tokens) finish(head);
      row = stop;
    }
  }

  void finish(int64_t head) const {
    if (head < args.heads) {
      for (int64_t t = 0; t < tokens; ++t) norm_and_rotate(q + t * q_width() + head * args.head_dim, args.q_norm, t);
      return;
    }
    const int64_t index = head - args.heads;
    const bool is_k = index < args.kv_heads;
    const auto kv_head = static_cast<int32_t>(is_k ? index : index - args.kv_heads);
    const auto& cache = static_cast<const CpuKvCache&>(*args.kv);
    const int32_t chunk_tokens = cache.spec().chunk_tokens;
    for (int64_t t = 0; t < tokens; ++t) {
      float* values = kv + t * kv_width() + index * args.head_dim;
      if (is_k) norm_and_rotate(values, args.k_norm, t);
      const int32_t slot = args.in->slots[t], chunk = slot / chunk_tokens;
      void* rows = is_k ? cache.k(args.layer, chunk, kv_head) : cache.v(args.layer, chunk, kv_head);
      const size_t offset = static_cast<size_t>(slot % chunk_tokens) * static_cast<size_t>(args.head_dim) * dtype_size(cache.spec().dtype);
      store_rounded(values, args.head_dim, cache.spec().dtype, static_cast<std::byte*>(rows) + offset);
    }
  }

  void norm_and_rotate(float* head, const float* norm, int64_t t) const {
    if (norm) rms_norm(head, norm, args.norm_eps, args.head_dim, head);
    rotate_halves(head, args.rope + t * args.head_dim, args.head_dim / 2);
  }
};

}  // namespace

void cpu_norm_qkv(CpuContext& context, const NormQkvArgs& args) {
  const auto& qkv = static_cast<const CpuMatrix&>(*args.qkv);
  const int64_t tokens = args.in->counts->tokens, head_count = args.heads + 2 * static_cast<int64_t>(args.kv_heads);
  BOLIDE_CHECK(args.q.dtype == DType::f32);
  BOLIDE_CHECK(qkv.rows() == head_count * args.head_dim && qkv.columns() == args.hidden);
  if (tokens <= 0) return;

  // The end of the scratch: the product uses its beginning.
  ModelDims dims;
  dims.heads = args.heads;
  dims.kv_heads = args.kv_heads;
  dims.head_dim = args.head_dim;
  const size_t own = norm_qkv_scratch(tokens, dims);
  BOLIDE_CHECK(context.products.bytes >= own + run_product_scratch(tokens, args.hidden, context.pool.size()));
  std::byte* scratch = context.products.data.get() + (context.products.bytes - own) / 64 * 64;
  auto* counts = reinterpret_cast<HeadCount*>(scratch);
  for (int64_t head = 0; head < head_count; ++head) new (counts + head) HeadCount(0);
  auto* kv = reinterpret_cast<float*>(scratch + (static_cast<size_t>(head_count) * sizeof(HeadCount) + 63) / 64 * 64);

  const Heads heads{args, tokens, static_cast<float*>(args.q.data), kv, counts};
  const ProductRows x{args.x, args.hidden, static_cast<int32_t>(tokens), nullptr, args.norm, args.norm_eps};
  run_product(context, qkv, 1, x, [&](const ProductPiece& piece) {
    for (int32_t t = 0; t < piece.tokens; ++t) heads.store(piece.token + t, piece.row, piece.rows, piece.c[0] + t * piece.stride);
    heads.arrived(piece);
  });
}

size_t norm_qkv_scratch(int64_t tokens, const ModelDims& dims) {
  const auto head_count = static_cast<size_t>(dims.heads + 2 * dims.kv_heads);
  const auto kv_row = 2 * static_cast<size_t>(dims.kv_heads) * static_cast<size_t>(dims.head_dim) * sizeof(float);
  return (head_count * sizeof(HeadCount) + 63) / 64 * 64 + static_cast<size_t>(tokens) * kv_row + 64;
}

}  // namespace bolide
