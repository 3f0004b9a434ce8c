#include "cli/perplexity_windows.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace bolide {

std::vector<PerplexityWindow> perplexity_windows(int64_t tokens, int64_t size, int64_t stride) {
  BOLIDE_CHECK(tokens >= 2 && stride >= 1 && stride <= size);
  std::vector<PerplexityWindow> windows;
  int64_t reached = 0;
  for (int64_t begin = 0; reached < tokens; begin += stride) {
    const int64_t end = std::min(begin + size, tokens);
    windows.push_back({begin, end, end - reached});
    reached = end;
  }
  return windows;
}

void PerplexitySum::add(const PerplexityWindow& window, std::span<const float> logprobs) {
  BOLIDE_CHECK(static_cast<int64_t>(logprobs.size()) == window.end - window.begin);
  const int64_t rated = window.rated();
  if (rated == 0) return;
  double nll = 0;
  for (const float logprob : logprobs.last(static_cast<size_t>(rated))) nll -= static_cast<double>(logprob);
  sum_ += nll;
  tokens_ += rated;
  recipe_sum_ += nll / static_cast<double>(rated) * static_cast<double>(window.targets - 1);
  recipe_tokens_ += window.targets - 1;
}

double PerplexitySum::perplexity() const { return std::exp(nll()); }

double PerplexitySum::recipe_perplexity() const { return std::exp(recipe_nll()); }

}  // namespace bolide
