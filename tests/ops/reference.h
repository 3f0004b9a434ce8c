// The seven ops once more, as plainly as can be and in double precision: what every backend is measured against. Inputs are the
// float32 values that the stored elements widen to; nothing is rounded on the way.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/ops.h"
#include "fixture.h"

namespace bolide::ops_test {

using Doubles = std::vector<double>;
Doubles widen(const std::vector<float>& values);

// [T, K] x [N, K] -> [T, N], plus bias [N] unless empty.
Doubles reference_product(const Doubles& a, const std::vector<float>& w, int64_t columns, const std::vector<float>& bias);
// Rows of `width`.
Doubles reference_rms_norm(const Doubles& x, int64_t width, const std::vector<float>& norm, double eps);
double reference_activation(GatedActivation activation, double x);
// [T, Dh / 2, 2]: cosine and sine of the float32 angle.
Doubles reference_rope(const std::vector<int32_t>& positions, const std::vector<float>& inverse_frequencies);
// Rotates the halves of each head: heads [T, heads, Dh].
void reference_rotate(Doubles& values, const Doubles& rope, int64_t heads, int64_t head_dim);

struct ReferenceQkv {
  Doubles q, k, v;  // [T, H, Dh], [T, Hkv, Dh]
};
struct QkvShape {
  int32_t hidden, heads, kv_heads, head_dim;
};
ReferenceQkv reference_norm_qkv(const std::vector<float>& x, const std::vector<float>& norm, double eps, const std::vector<float>& w,
                                const std::vector<float>& bias, const std::vector<float>& q_norm, const std::vector<float>& k_norm,
                                const Doubles& rope, const QkvShape& shape);

// q [T, H, Dh]; content.k, content.v as in KvContent.
Doubles reference_attention(const std::vector<float>& q, const std::vector<TestSequence>& sequences, const KvContent& content,
                            int32_t heads, int32_t kv_heads, int32_t head_dim, double scale, int32_t window);

// log_softmax of a row.
Doubles reference_logprobs(const std::vector<float>& logits);
// Scores after penalties, bias, temperature, top-k, top-p and min-p by full sorts, -infinity where an entry is left out. `spec.temperature`
// > 0.
Doubles reference_filtered(const std::vector<float>& logits, const TestSampling& sampling);
// The draw from them: best id, and by how much it beats the second-best.
struct ReferenceDraw {
  int32_t id;
  double lead;
};
ReferenceDraw reference_draw(const Doubles& scores, const SamplingSpec& spec);

}  // namespace bolide::ops_test
