// Matrix products of the ops: out[m, n] = sum over k of x[m, k] * w[n, k], accumulated in float32.
//
// Operands have one of three element types, chosen from the weights' and the backend's activation dtype:
//   activations f32            -> f32 (16-bit weights are widened: by the few-row kernel as it reads, else into scratch)
//   activations bf16, w bf16   -> bf16
//   activations bf16, w f16    -> f16, each row divided by a power of two that keeps it in range; few rows: f32
//   activations bf16, w f32    -> f32
// Rounding the normed rows to the weights' width is what the tensor cores ask for; it is done for few rows as well, so that a
// row's result does not depend on how many rows the step has beyond the order of float32 sums.
#pragma once

#include "cuda/check.h"
#include "cuda/context.h"

namespace bolide {

// Left operand [rows, columns] row-major, columns padded with zeros to `stride`.
struct Operand {
  const void* data;
  DType dtype;
  int64_t stride;
  const float* row_scale;  // [rows]: true value = stored * row_scale[row]; null = 1
};

struct Rows {
  int32_t capacity;      // launch geometry and buffer sizes follow it
  const int32_t* count;  // in device memory, <= capacity
};

// Rows of the residual stream and the norm that turns them into an operand.
struct NormRows {
  const float* x;     // [T, columns]; null: no norm
  const float* norm;  // [columns]
  float eps;
  const int32_t* gather;  // null: row r is x row r
};

// rmsnorm(x[row]) * norm as an operand for `weight`, in context.scratch.operand. gather: row r reads x row gather[r] (null: r).
// pending: what is owed to x is added first; only where norm_settles() says so, and without gather.
Operand norm_operand(CudaContext& context, const float* x, const float* norm, float eps, int64_t columns, const MatrixView& weight,
                     const Rows& rows, const int32_t* gather, const CudaSite& site, const PendingSum& pending = {});  // operand.cu
bool norm_settles(const CudaContext& context, int64_t columns, const MatrixView& weight, const Rows& rows);

// An activation buffer [rows, columns] as an operand for `weight`: in place when its dtype and width suit, else converted.
Operand activation_operand(CudaContext& context, const ActivationBuffer& h, const MatrixView& weight, const Rows& rows,
                           const CudaSite& site);  // operand.cu

// True when a product takes the few-row kernel, which can add a bias as it stores and needs no row scale.
bool few_rows(const Rows& rows);

// out [rows.capacity, >= weight.rows] with row stride out_stride; rows past rows.count hold unspecified values afterwards.
// accumulate: adds to what is there. The operand's row scale is NOT applied: epilogues do that.
// bias (few rows only): [N] f32 or null.
void product(CudaContext& context, const Operand& x, const MatrixView& weight, float* out, int64_t out_stride, bool accumulate,
             const float* bias, const Rows& rows, const CudaSite& site);  // product.cpp

// The two ways (gemv.cu, gemm.cpp). gemv takes any number of rows, in groups of eight.
void gemv(CudaContext& context, const Operand& x, const MatrixView& weight, float* out, int64_t out_stride, bool accumulate,
          const float* bias, const Rows& rows, const CudaSite& site);
void gemm(CudaContext& context, const Operand& x, const MatrixView& weight, float* out, int64_t out_stride, bool accumulate,
          const Rows& rows, const CudaSite& site);

// Few rows with the norm inside: the product of rmsnorm(x[row]) * norm without a kernel of its own for the norm (gemv.cu). Rows as for
// norm_operand. norm_gemv_fits: whether the normed rows fit into a block's shared memory; otherwise use norm_operand and product.
bool norm_gemv_fits(const CudaContext& context, const MatrixView& weight, const Rows& rows);
void norm_gemv(CudaContext& context, const NormRows& n, const MatrixView& weight, float* out, int64_t out_stride, const Rows& rows,
               const CudaSite& site);
// weight [2 F, D]: out[m, f] = activation(product f + bias f) * (product F + f + bias F + f), [rows, F].
void norm_gemv_gated(CudaContext& context, const NormRows& n, const MatrixView& weight, const float* bias, GatedActivation activation,
                     const ActivationBuffer& out, const Rows& rows, const CudaSite& site);

// At most 8 rows with weights of the activations' type, bfloat16 or float32 (kernels/row_product.cu), the path of decoding: either `h` or
// `norm.x` is given, and either `out` or `gated`. The caller leaves what stands after `activation` to row_product().
struct RowProduct {
  const void* h;  // [rows, K] of the weights' type
  int64_t h_stride;
  NormRows norm;
  const float* bias;  // [N] or null
  float* out;         // [rows, N] f32
  int64_t out_stride;
  bool accumulate;  // out += instead of out =
  void* gated;      // [rows, N / 2] of the weights' type: activation(gate) * up
  GatedActivation activation;
  const void* weight;
  int64_t weight_stride;
  const int32_t* count;
};
// Whether the code that this device runs was compiled for compute capability 9.0 or later; code for earlier ones lacks the kernel, and PTX
// for them runs on later devices too.
bool row_product_compiled(const CudaSite& site);
bool row_product_fits(const CudaContext& context, const MatrixView& weight, const Rows& rows);
void row_product(CudaContext& context, const RowProduct& product, const MatrixView& weight, const Rows& rows, const CudaSite& site);

// More than kFewRows rows and bfloat16 throughout, on compute capability 9.0: products that end in their epilogue.
// tile_product_fits: of gated products; parts and heads ask for more.
bool tile_product_fits(const CudaContext& context, DType operand, const MatrixView& weight, const Rows& rows);
// out [rows, N / 2] bf16: activation(gate + bias) * (up + bias), weight and bias [N] gates, then ups; bias may be null
// (kernels/tile_product.cu).
void tile_product_gated(CudaContext& context, const Operand& x, const MatrixView& weight, const float* bias, GatedActivation activation,
                        void* out, const Rows& rows, const CudaSite& site);

// out [parts][rows.capacity][out_stride] f32: parts of the products, to be added in their order (kernels/tile_product.cu).
bool tile_parts_fit(const CudaContext& context, DType operand, const MatrixView& weight, const Rows& rows);
// As many as keep all multiprocessors busy.
int tile_parts(const CudaContext& context, const MatrixView& weight, const Rows& rows);
void tile_product_parts(CudaContext& context, const Operand& x, const MatrixView& weight, float* out, int64_t out_stride, int parts,
                        const Rows& rows, const CudaSite& site);

// norm_qkv's heads (kernels/tile_heads.cu).
struct TileHeads {
  QkvProduct product;  // all but the product itself and its row scale
  void* q;             // [T, H, Dh] bf16
  KvView kv;
  int32_t layer;
  const int32_t* slots;
};
bool tile_heads_fit(const CudaContext& context, DType operand, const MatrixView& weight, const Rows& rows, const TileHeads& heads);
void tile_product_heads(CudaContext& context, const Operand& x, const MatrixView& weight, const TileHeads& heads, const Rows& rows,
                        const CudaSite& site);

// Element type of operands of products with this weight.
DType operand_dtype(DType activations, DType weight, bool few);

// to[r, c] = from[r, c] widened, r < rows, c < columns (operand.cu).
void widen_rows(CudaContext& context, const void* from, DType dtype, float* to, int64_t elements, const CudaSite& site);

}  // namespace bolide
