// A model opened for reading but not yet on a device: what `inspect` prints and what the executor prepares.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "io/weight_source.h"
#include "model/weights.h"

namespace bolide {

struct ModelSource {
  std::filesystem::path folder;        // a checkpoint folder, or
  std::filesystem::path random_shape;  // a config.json (configs/models/*.json) to be filled with random weights
  DType random_dtype = DType::bf16;
  uint64_t random_seed = 0;
};

struct OpenModel {
  ModelConfig config;
  std::unique_ptr<WeightSource> source;  // owns what `weights` views
  ModelWeights weights;
  DType weights_dtype;                   // of the layers' products
  std::vector<std::string> notes;        // "lm_head.weight absent: the embedding matrix serves as head", unread tensors, ...
};

// Throws ModelError: folder missing (and what to do), config.json missing or unsupported, every problem of the weights in one message.
OpenModel open_model(const ModelSource& source);

}  // namespace bolide
