// The inner product of all matrix products: a few token rows against rows of a weight matrix as stored.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "cpu/streaming.h"

namespace bolide {

constexpr int kTileTokens = 6;      // token rows of a tile at most
constexpr int kTileRows = 128;      // weight rows of a tile at most
constexpr int kColumnBlock = 1024;  // columns whose products share one accumulator

// c[t * ldc + r] = sum over k of a[t * lda + k] * w[r * columns + k].
//
// Lanes lie along k, in both operands as they are in memory, so nothing is packed or transposed: every pair (t, r) has one accumulator of
// a vector's width, which is folded to a scalar every kColumnBlock columns. The order of summation thus depends on `columns` and on the
// vector width alone: a row's products are bit-equal whether it comes alone or with others.
struct ProductTile {
  const float* a;  // [tokens, columns] f32, rows lda apart
  int64_t lda;
  int tokens;     // 1 .. kTileTokens
  const void* w;  // [rows, columns] of `dtype`, dense, any 2-byte aligned address
  DType dtype;
  int rows;  // 1 .. kTileRows
  int64_t columns;
  float* c;          // [tokens, ldc] f32, out; written up to the next multiple of 4 rows
  int64_t ldc;       // at least rows rounded up to 4
  int64_t prefetch;  // bytes: the weights come from memory and are prefetched so far ahead; 0 = they are in cache
  PrefetchInto into = PrefetchInto::l1;
  bool four_streams = false;   // from memory, one token: rows a quarter of the tile apart side by side, instead of one after the other
  const void* next = nullptr;  // what the caller reads after w; the last `prefetch` bytes of w prefetch its beginning
};
void product_tile(const ProductTile& tile);

// The same with activations rounded to bf16 and pairs of products summed by the AVX-512 BF16 instruction (its rounding, subnormals as 0).
// Weights must be bf16. Only where has_bf16_products().
struct ProductTileBf16 {
  const uint16_t* a;  // [tokens, columns] bf16, rows lda apart
  int64_t lda;
  int tokens;
  const void* w;  // [rows, columns] bf16
  int rows;
  int64_t columns;
  float* c;
  int64_t ldc;
  int64_t prefetch;
  bool prefetch_l2 = false;  // into L2 and no nearer
};
bool has_bf16_products();
void product_tile_bf16(const ProductTileBf16& tile);

}  // namespace bolide
