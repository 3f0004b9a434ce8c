// A model's weights by role: views into the checkpoint, before a backend prepares them.
#pragma once

#include <vector>

#include "core/tensor.h"
#include "io/weight_source.h"
#include "model/model_config.h"

namespace bolide {

struct Linear {
  TensorView weight;  // [out, in]
  TensorView bias;    // [out] or absent
};

struct LayerWeights {
  TensorView input_norm;      // [D]
  Linear q, k, v;             // [H*Dh, D], [Hkv*Dh, D], [Hkv*Dh, D]
  TensorView q_norm, k_norm;  // [Dh] or absent
  Linear o;                   // [D, H*Dh]
  TensorView post_norm;       // [D]
  Linear gate, up;            // [F, D]
  Linear down;                // [D, F]
};

struct ModelWeights {
  TensorView embed;       // [V, D]
  std::vector<LayerWeights> layers;
  TensorView final_norm;  // [D]
  TensorView head;        // [V, D]; the same view as embed when tied
  int64_t bytes() const;  // distinct tensors
};

// Requires every tensor of the config from the source. Throws one ModelError with all problems. Settles in the config
// - tied_head: true where lm_head is absent (whatever the flag said) or the flag is set and lm_head holds the same bytes as the
//   embeddings; a differing lm_head is used although the flag is set, as transformers does;
// - names: without the leading "model." where the checkpoint was saved without it.
ModelWeights bind_weights(ModelConfig& config, WeightSource& source);

}  // namespace bolide
