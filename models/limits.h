// Upper limits of what a config.json may ask for: far above every published model, and low enough that no product of two sizes, no
// parameter count and no byte count of weights or of a full KV cache overflows 63 bits.
#pragma once

#include <cstdint>

namespace bolide {

constexpr int64_t kMaxHidden = int64_t{1} << 18;
constexpr int64_t kMaxMlp = int64_t{1} << 22;
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxHeads = int64_t{1} << 14;
constexpr int64_t kMaxHeadDim = int64_t{1} << 12;
constexpr int64_t kMaxProjection = int64_t{1} << 20;  // heads * head_dim
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxContext = int64_t{1} << 27;
constexpr double kMinRopeNumber = 1e-6, kMaxRopeNumber = 1e15;

}  // namespace bolide
