// Perplexity over windows of a text, after the recipe that transformers documents for models with a context of fixed length.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bolide {

// Tokens begin to end - 1 go through the model; the last `targets` of them are rated, those before only give context. A window's first
// token has nothing before it and is never rated.
struct PerplexityWindow {
  int64_t begin, end, targets;
  int64_t rated() const { return targets < end - begin ? targets : end - begin - 1; }
};

// Windows of `size` tokens that begin `stride` apart, up to the one that reaches the end of the text; each rates what the one before did
// not reach. 1 <= stride <= size, tokens >= 2.
std::vector<PerplexityWindow> perplexity_windows(int64_t tokens, int64_t size, int64_t stride);

class PerplexitySum {
 public:
  // logprobs[i]: of the window's token i given those before it; entry 0 means nothing.
  void add(const PerplexityWindow& window, std::span<const float> logprobs);

  int64_t tokens() const { return tokens_; }
  // Mean of -log p over the rated tokens, each counted once; its exponential. NaN before the first token.
  double nll() const { return sum_ / static_cast<double>(tokens_); }
  double perplexity() const;

  // As the recipe adds up: a window's mean counts for one token less than its targets, which is one too few wherever there was context.
  int64_t recipe_tokens() const { return recipe_tokens_; }
  double recipe_nll() const { return recipe_sum_ / static_cast<double>(recipe_tokens_); }
  double recipe_perplexity() const;

 private:
  int64_t tokens_ = 0, recipe_tokens_ = 0;
  double sum_ = 0, recipe_sum_ = 0;
};

}  // namespace bolide
