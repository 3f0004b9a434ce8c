// A checkpoint folder's tensors, mapped without copying.
#pragma once

#include <filesystem>
#include <memory>

#include "io/weight_source.h"

namespace bolide {

// Opens model.safetensors, else the shards of model.safetensors.index.json, else the sole *.safetensors of the folder; maps the files
// and validates every header. Problems of the files (missing shard, git-lfs pointer, truncation, ...) are kept and listed
// together with those of require() by throw_problems(). Views stay valid as long as the store lives.
std::unique_ptr<WeightSource> open_weight_store(const std::filesystem::path& folder);

// Weights drawn from a counter-based generator: the same values for the same seed, name and shape, whatever the number of
// threads. Matrices are uniform with variance 1/columns (so activations stay of order one), norm vectors are 1, biases small.
// Memory is allocated as tensors are required.
std::unique_ptr<WeightSource> make_random_weights(DType dtype, uint64_t seed);

}  // namespace bolide
