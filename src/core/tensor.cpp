#include "core/tensor.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace bolide {

std::string shape_text(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ",")); }

}  // namespace bolide
