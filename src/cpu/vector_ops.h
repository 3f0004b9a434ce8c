// Element-wise and row-wise SIMD pieces of the ops. All in float32; addresses need the alignment of their type only.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/activation.h"
#include "core/dtype.h"

namespace bolide {

// 1 / sqrt(mean(x^2) + eps)   (Zhang and Sennrich, arXiv:1910.07467)
float rms_scale(const float* x, float eps, int64_t n);
// out[i] = x[i] * scale * weight[i]; out may be x.
void scale_by(const float* x, const float* weight, float scale, int64_t n, float* out);
// Both: RMSNorm of a row.
inline void rms_norm(const float* x, const float* weight, float eps, int64_t n, float* out) {
  scale_by(x, weight, rms_scale(x, eps, n), n, out);
}

// Rotates the halves of a head against each other (Su et al., arXiv:2104.09864, in transformers' order of elements):
// (a, b) = (head[i], head[i + half]) becomes (a cos - b sin, b cos + a sin), with (cos, sin) = rope[2 i], rope[2 i + 1].
void rotate_halves(float* head, const float* rope, int64_t half);

// x[i] += y[i]
void add(float* x, const float* y, int64_t n);

// out[i] = activation(gate[i]) * up[i]
void gated_activation(GatedActivation activation, const float* gate, const float* up, int64_t n, float* out);

// Rounds to nearest, ties to even, and stores as `dtype`; NaN stays NaN.
void store_rounded(const float* x, int64_t n, DType dtype, void* out);

// Highway's name of the SIMD target in use ("AVX3"), and of all that are compiled in, best first.
const char* simd_target_in_use();
std::vector<std::string> simd_targets_compiled();

}  // namespace bolide
