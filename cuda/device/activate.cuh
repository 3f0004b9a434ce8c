// The gated MLP's activation functions in float32.
#pragma once

#include "core/activation.h"

namespace bolide {

__device__ inline float activate(GatedActivation activation, float v) {
  switch (activation) {
    case GatedActivation::silu:
      return v / (1.0f + expf(-v));
    case GatedActivation::gelu_tanh:
      return 0.5f * v * (1.0f + tanhf(0.7978845608028654f * (v + 0.044715f * v * v * v)));
    case GatedActivation::gelu_erf:
      return 0.5f * v * (1.0f + erff(v * 0.7071067811865476f));
  }
  return nanf("");
}

}  // namespace bolide
