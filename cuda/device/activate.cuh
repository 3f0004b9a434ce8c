// The gated MLP's activation functions in float32.
#pragma once

#include "core/activation.h"

namespace bolide {

__device__ inline float activate_gelu(GatedActivation activation, float v) {
  const float bend =
      activation == GatedActivation::gelu_tanh ? tanhf(0.7978845608028654f * (v + 0.044715f * v * v * v)) : erff(v * 0.7071067811865476f);
  return 0.5f * v * (1.0f + bend);
}
__device__ inline float activate(GatedActivation activation, float v) {
  return activation == GatedActivation::silu ? v / (1.0f + expf(-v)) : activate_gelu(activation, v);
}
// The same as exact as a bfloat16 result needs it, in few instructions and without branches.
template <GatedActivation kActivation>
__device__ inline float activate_roughly(float v) {
  return kActivation == GatedActivation::silu ? __fdividef(v, 1.0f + __expf(-v)) : activate_gelu(kActivation, v);
}

}  // namespace bolide
