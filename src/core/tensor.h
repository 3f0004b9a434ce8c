// Read-only view of a dense row-major tensor: weights as they lie in a mapped file. Never owns.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace bolide {

using Shape = std::vector<int64_t>;

inline int64_t element_count(const Shape& shape) {
  int64_t n = 1;
  for (int64_t d : shape) n *= d;
  return n;
}

// "[3072,1024]", as messages print it.
std::string shape_text(const Shape& shape);

struct TensorView {
  const void* data = nullptr;  // null = tensor absent
  DType dtype = DType::f32;
  Shape shape;

  explicit operator bool() const { return data != nullptr; }
  int64_t elements() const { return element_count(shape); }
  size_t bytes() const { return static_cast<size_t>(elements()) * dtype_size(dtype); }
};

}  // namespace bolide
