#include "cli/spread.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace bolide {

Spread spread_of(std::vector<double> values) {
  BOLIDE_CHECK(!values.empty());
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  Spread spread;
  spread.least = values.front();
  spread.most = values.back();
  spread.median = n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
  spread.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(n);
  double squares = 0;
  for (const double value : values) squares += (value - spread.mean) * (value - spread.mean);
  if (n > 1) spread.deviation = std::sqrt(squares / static_cast<double>(n - 1));
  return spread;
}

}  // namespace bolide
