// norm_qkv against a norm kernel and cuBLASLt, for `bolide bench ops`.
#pragma once

#include "backend/backend.h"
#include "cuda/context.h"

namespace bolide {

// `context` is that of `backend`, its activations of shape.dtype; reserve() is called for the shape. Fields as backend/op_comparison.h
// says.
NormQkvComparison compare_cuda_norm_qkv(CudaContext& context, Backend& backend, const NormQkvShape& shape);

}  // namespace bolide
