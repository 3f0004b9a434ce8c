#include "model/model_config.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace bolide {

// transformers computes all of this on float32 tensors; scalars of the config are rounded to float32 where they meet one.
std::vector<float> rope_inverse_frequencies(const RopeConfig& rope, int head_dim) {
  BOLIDE_CHECK(head_dim > 0 && head_dim % 2 == 0);
  std::vector<float> frequencies(static_cast<size_t>(head_dim / 2));
  const float base = static_cast<float>(rope.theta);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    frequencies[i] = 1.0f / std::pow(base, exponent);
  }
  const float factor = static_cast<float>(rope.factor);
  if (rope.scaling == RopeConfig::Scaling::linear) {
    for (float& f : frequencies) f /= factor;
  }
  if (rope.scaling == RopeConfig::Scaling::llama3) {
    // Wavelengths beyond the original context are stretched by the factor, those far inside it are kept, and those between
    // low_freq_factor and high_freq_factor turns per original context are blended.
    const double context = static_cast<double>(rope.original_context);
    const float longest_kept = static_cast<float>(context / rope.high_freq_factor);
    const float shortest_stretched = static_cast<float>(context / rope.low_freq_factor);
    const float low = static_cast<float>(rope.low_freq_factor);
    const float range = static_cast<float>(rope.high_freq_factor - rope.low_freq_factor);
    for (float& f : frequencies) {
      const float wavelength = static_cast<float>(2.0 * std::numbers::pi) / f;
      if (wavelength > shortest_stretched) {
        f /= factor;
      } else if (!(wavelength < longest_kept)) {
        const float kept = (static_cast<float>(context) / wavelength - low) / range;
        f = (1.0f - kept) * f / factor + kept * f;
      }
    }
  }
  return frequencies;
}

int64_t ModelConfig::parameters() const {
  const int64_t D = hidden, F = mlp, Dh = head_dim;
  const int64_t Q = heads * Dh, KV = kv_heads * Dh;
  int64_t layer = 2 * D + (Q + 2 * KV) * D + Q * D + 3 * D * F;
  if (qkv_bias) layer += Q + 2 * KV;
  if (o_bias) layer += D;
  if (mlp_bias) layer += 2 * F + D;
  if (qk_norm) layer += 2 * Dh;
  return layers * layer + vocab * D * (tied_head ? 1 : 2) + D;
}

int64_t ModelConfig::kv_bytes_per_token(DType kv) const {
  return int64_t{2} * layers * kv_heads * head_dim * static_cast<int64_t>(dtype_size(kv));
}

}  // namespace bolide
