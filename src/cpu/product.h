// Matrix products of a step: rows of activations (normed on the way, if asked) against a prepared matrix, split over the thread pool.
#pragma once

#include <cstdint>
#include <functional>

#include "cpu/kernels.h"

namespace bolide {

// The left operand: `tokens` rows of f32 as wide as the matrix, `stride` apart.
struct ProductRows {
  const float* data;
  int64_t stride;
  int32_t tokens;
  const int32_t* row_index = nullptr;  // [tokens] which row of data; null = 0, 1, 2, ...
  const float* norm = nullptr;         // [columns] RMSNorm weight, applied to each row first; null = rows as they are
  float norm_eps = 0.0f;
};

// A finished piece: c[part][t * stride + r] belongs to token `token` + t and matrix row part * rows_per_part + `row` + r. The sink may
// overwrite it.
struct ProductPiece {
  int32_t token, tokens;
  int64_t row;
  int32_t rows;
  float* c[2];
  int64_t stride;
};

// Calls `sink` for pieces that together cover every token and every row once; calls for different pieces run at the same time. With two
// parts a piece holds the same rows of the matrix's upper and lower half. The weights are read from memory once.
void run_product(CpuContext& context, const CpuMatrix& matrix, int parts, const ProductRows& rows,
                 const std::function<void(const ProductPiece&)>& sink);

// Scratch of run_product (its beginning zero at first) for at most `tokens` rows and matrices of at most `columns` columns.
size_t run_product_scratch(int64_t tokens, int64_t columns, int threads);

}  // namespace bolide
