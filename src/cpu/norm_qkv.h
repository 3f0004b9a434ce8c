// What norm_qkv.cpp keeps in scratch, for reserve().
#pragma once

#include <cstddef>

#include "cpu/kernels.h"

namespace bolide {

size_t norm_qkv_scratch(int64_t tokens, const ModelDims& dims);

}  // namespace bolide
