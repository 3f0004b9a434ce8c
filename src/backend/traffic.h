// What an op has to move and to compute, whoever runs it: the yardstick of `bolide profile`.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace bolide {

// One sequence's part of a step.
struct SequenceRows {
  int32_t rows = 0;       // token rows, the last ones of the sequence
  int32_t kv_length = 0;  // tokens in the cache once the step has appended its rows
};
struct StepShape {
  int32_t logit_rows = 0;  // R
  std::vector<SequenceRows> sequences;
  int64_t tokens() const;  // T
};

// Bytes that cross the memory bus when every array is read or written once and nothing stays in a cache, and the floating point
// operations of products and attention (a multiply-add is two). What an op reads twice, or keeps in a cache from the op before, is the
// difference between this and what a counter of the hardware would show.
struct OpTraffic {
  double weight_bytes = 0;      // matrices, norms, biases
  double kv_bytes = 0;          // K and V, read and appended
  double activation_bytes = 0;  // the residual stream, buffers between ops, logits
  double operations = 0;
  double bytes() const { return weight_bytes + kv_bytes + activation_bytes; }
  OpTraffic& operator+=(const OpTraffic& other);
};
OpTraffic op_traffic(const Op& op, const StepShape& shape);

// "norm_qkv": the op's name in its four places.
std::string_view op_name(const Op& op);

}  // namespace bolide
