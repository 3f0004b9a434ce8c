// A fused op against the plain way: what `bolide bench ops` measures.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace bolide {

struct NormQkvShape {
  int32_t hidden = 0, heads = 0, kv_heads = 0, head_dim = 0;
  int32_t rows = 1;           // T
  DType dtype = DType::bf16;  // of weights, activations, K and V
  int64_t outputs() const { return int64_t{heads + 2 * kv_heads} * head_dim; }
};

// Times are medians per call, of calls that run back to back over copies of the weights which together exceed the last cache, so that
// each call reads its weights from memory. Errors are the largest absolute difference from double precision over `error_rows` rows;
// the inputs make every output's root mean square about 1.
struct NormQkvComparison {
  double op_seconds = 0;       // the op: norm, product, rotation of q and k, K and V stored in the cache
  double product_seconds = 0;  // its norm and product alone; 0 where the op has no such part for this many rows
  double plain_seconds = 0;    // a norm kernel, then the library's product; no rotation, nothing stored in the cache
  double op_error = 0, plain_error = 0;
  int32_t error_rows = 0;
  int32_t copies = 0;        // of the weights
  int64_t weight_bytes = 0;  // of one copy
  int64_t cache_bytes = 0;   // of the device's last cache
};

}  // namespace bolide
