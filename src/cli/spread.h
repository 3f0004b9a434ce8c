// What a row of measurements amounts to.
#pragma once

#include <vector>

namespace bolide {

// Mean, standard deviation (of a sample; 0 for one), median and extremes. `values` is not empty.
struct Spread {
  double mean = 0, deviation = 0, median = 0, least = 0, most = 0;
};
Spread spread_of(std::vector<double> values);

}  // namespace bolide
