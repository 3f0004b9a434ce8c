#include "compare.h"

#include <fmt/format.h>

#include <cmath>

namespace bolide::ops_test {

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 0x1p-24;
    case DType::f16:
      return 0x1p-11;
    case DType::bf16:
      return 0x1p-8;
    case DType::f8:
      return 0x1p-4;
  }
  return 0.0;
}

double product_tolerance(int64_t terms, DType activations) {
  const double sums = 4.0 * (1.0 + std::sqrt(static_cast<double>(terms) / 2.0)) * unit_roundoff(DType::f32);
  return sums + 2.0 * unit_roundoff(activations);
}

std::string difference(const std::vector<float>& actual, const std::vector<double>& expected, int64_t columns, double tolerance) {
  if (actual.size() != expected.size()) return fmt::format("{} elements instead of {}", actual.size(), expected.size());
  const auto width = static_cast<size_t>(columns);
  if (columns <= 0 || actual.size() % width != 0) return fmt::format("{} elements are not rows of {}", actual.size(), columns);
  for (size_t row = 0; row < actual.size() / width; ++row) {
    double error = 0.0, norm = 0.0;
    for (size_t i = row * width; i < (row + 1) * width; ++i) {
      const double a = static_cast<double>(actual[i]), e = expected[i];
      if (!std::isfinite(a) || !std::isfinite(e)) return fmt::format("row {} column {}: {} instead of {}", row, i % width, a, e);
      error += (a - e) * (a - e);
      norm += e * e;
    }
    if (!(std::sqrt(error) <= tolerance * std::sqrt(norm))) {
      return fmt::format("row {}: error {:.3g} against norm {:.3g} ({:.3g} relative) exceeds {:.3g}", row, std::sqrt(error),
                         std::sqrt(norm), std::sqrt(error / norm), tolerance);
    }
  }
  return "";
}

std::string difference(const std::vector<float>& actual, const std::vector<float>& expected, int64_t columns, double tolerance) {
  return difference(actual, std::vector<double>(expected.begin(), expected.end()), columns, tolerance);
}

}  // namespace bolide::ops_test
