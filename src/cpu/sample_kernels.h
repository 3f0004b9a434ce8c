// Passes over one row of logits, by SIMD target. What they are for: sample.cpp.
#pragma once

#include <cstdint>

#include "backend/ops.h"

namespace bolide {

struct RowTop {
  float value = 0.0f;  // greatest value, meaningless where has_nan
  int32_t id = 0;      // lowest id that holds it
  bool has_nan = false;
};
// n >= 1.
RowTop row_top(const float* x, int32_t n);

// Sum of exp(x[i] - top), top at least the greatest value; relative error below 1e-6.
double row_exp_sum(const float* x, int32_t n, float top);
// The same over entries with x[i] >= least, and how many they are.
struct RowMass {
  double sum;
  int32_t count;
};
RowMass row_mass(const float* x, int32_t n, float top, float least);

// Greatest value of each kSelectBlock neighbours (the last block may be short). Returns the number of blocks.
constexpr int32_t kSelectBlock = 64;
int32_t row_block_tops(const float* x, int32_t n, float* out);

// out[i] = x[i] / divisor; out may be x.
void row_divide(const float* x, int32_t n, float divisor, float* out);

struct Candidate {
  float score;
  int32_t id;
};
// Entries with low <= x[i] < high and x[i] > -infinity, in order of id. Returns their number;
// out must have room for one more than that.
int32_t row_select(const float* x, int32_t n, float low, float high, Candidate* out);

// The `count` greatest entries (at most kMaxTopLogprobs and n), greatest first, ties in order of id. NaN is not allowed.
void row_top_entries(const float* x, int32_t n, int32_t count, Candidate* out);

}  // namespace bolide
