// How the op suite judges a result: by norms, against a reference in double precision, with bounds that follow from the arithmetic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace bolide::ops_test {

// Half the distance between neighbouring values, relative: 2^-24, 2^-11, 2^-8.
double unit_roundoff(DType dtype);

// Relative L2 error that a sum of `terms` products in float32 may show on random data. Rounding errors of a running sum form a random
// walk, sqrt(terms / 2) roundoffs; the factor 4 covers its spread over rows. One rounding to the activation dtype has relative L2
// error below its roundoff (0.41 of it on average), and an op rounds at most its input and its output.
double product_tolerance(int64_t terms, DType activations);

// Empty when every row of `actual` [rows, columns] lies within `tolerance` of `expected` in relative L2 norm; otherwise one line that
// says where and by how much not. Different sizes, a NaN or an infinity on either side, and anything but zeros against a row of zeros
// are differences.
std::string difference(const std::vector<float>& actual, const std::vector<double>& expected, int64_t columns, double tolerance);
std::string difference(const std::vector<float>& actual, const std::vector<float>& expected, int64_t columns, double tolerance);

}  // namespace bolide::ops_test
