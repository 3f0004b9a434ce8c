// Activation functions of gated MLPs.
#pragma once

#include <cstdint>

namespace bolide {

enum class GatedActivation : uint8_t {
  silu,       // x * sigmoid(x)
  gelu_tanh,  // 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
  gelu_erf,   // 0.5 x (1 + erf(x / sqrt(2)))
};

}  // namespace bolide
