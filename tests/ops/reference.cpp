#include "reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/philox.h"

namespace bolide::ops_test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

size_t rows_of(const Doubles& values, int64_t width) { return values.size() / static_cast<size_t>(width); }

Doubles softmax(const Doubles& scores) {
  const double top = *std::max_element(scores.begin(), scores.end());
  Doubles p(scores.size());
  std::transform(scores.begin(), scores.end(), p.begin(), [top](double s) { return std::exp(s - top); });
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& v : p) v /= sum;
  return p;
}

}  // namespace

Doubles widen(const std::vector<float>& values) { return {values.begin(), values.end()}; }

Doubles reference_product(const Doubles& a, const std::vector<float>& w, int64_t columns, const std::vector<float>& bias) {
  const auto k = static_cast<size_t>(columns);
  const size_t rows = a.size() / k, n = w.size() / k;
  Doubles out(rows * n);
  for (size_t t = 0; t < rows; ++t) {
    for (size_t j = 0; j < n; ++j) {
      double sum = bias.empty() ? 0.0 : static_cast<double>(bias[j]);
      for (size_t i = 0; i < k; ++i) sum += a[t * k + i] * static_cast<double>(w[j * k + i]);
      out[t * n + j] = sum;
    }
  }
  return out;
}

Doubles reference_rms_norm(const Doubles& x, int64_t width, const std::vector<float>& norm, double eps) {
  const auto d = static_cast<size_t>(width);
  Doubles out(x.size());
  for (size_t row = 0; row < rows_of(x, width); ++row) {
    double squares = 0.0;
    for (size_t i = 0; i < d; ++i) squares += x[row * d + i] * x[row * d + i];
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(d) + eps);
    for (size_t i = 0; i < d; ++i) out[row * d + i] = x[row * d + i] * scale * static_cast<double>(norm[i]);
  }
  return out;
}

double reference_activation(GatedActivation activation, double x) {
  switch (activation) {
    case GatedActivation::silu:
      return x / (1.0 + std::exp(-x));
    case GatedActivation::gelu_tanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / std::acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case GatedActivation::gelu_erf:
      return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
  }
  return 0.0;
}

Doubles reference_rope(const std::vector<int32_t>& positions, const std::vector<float>& inverse_frequencies) {
  Doubles rope;
  for (int32_t position : positions) {
    for (float frequency : inverse_frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      rope.push_back(std::cos(static_cast<double>(angle)));
      rope.push_back(std::sin(static_cast<double>(angle)));
    }
  }
  return rope;
}

void reference_rotate(Doubles& values, const Doubles& rope, int64_t heads, int64_t head_dim) {
  const auto dh = static_cast<size_t>(head_dim), half = dh / 2;
  for (size_t head = 0; head < rows_of(values, head_dim); ++head) {
    const size_t t = head / static_cast<size_t>(heads);
    for (size_t i = 0; i < half; ++i) {
      double& a = values[head * dh + i];
      double& b = values[head * dh + half + i];
      const double c = rope[t * dh + 2 * i], s = rope[t * dh + 2 * i + 1], low = a, high = b;
      a = low * c - high * s;
      b = high * c + low * s;
    }
  }
}

ReferenceQkv reference_norm_qkv(const std::vector<float>& x, const std::vector<float>& norm, double eps, const std::vector<float>& w,
                                const std::vector<float>& bias, const std::vector<float>& q_norm, const std::vector<float>& k_norm,
                                const Doubles& rope, const QkvShape& shape) {
  const Doubles qkv = reference_product(reference_rms_norm(widen(x), shape.hidden, norm, eps), w, shape.hidden, bias);
  const auto q_width = static_cast<size_t>(shape.heads * shape.head_dim), kv_width = static_cast<size_t>(shape.kv_heads * shape.head_dim);
  const size_t width = q_width + 2 * kv_width;
  ReferenceQkv out;
  for (size_t row = 0; row < qkv.size(); row += width) {
    const auto begin = qkv.begin() + static_cast<std::ptrdiff_t>(row);
    const auto k = begin + static_cast<std::ptrdiff_t>(q_width), v = k + static_cast<std::ptrdiff_t>(kv_width);
    out.q.insert(out.q.end(), begin, k);
    out.k.insert(out.k.end(), k, v);
    out.v.insert(out.v.end(), v, v + static_cast<std::ptrdiff_t>(kv_width));
  }
  if (!q_norm.empty()) out.q = reference_rms_norm(out.q, shape.head_dim, q_norm, eps);
  if (!k_norm.empty()) out.k = reference_rms_norm(out.k, shape.head_dim, k_norm, eps);
  reference_rotate(out.q, rope, shape.heads, shape.head_dim);
  reference_rotate(out.k, rope, shape.kv_heads, shape.head_dim);
  return out;
}

Doubles reference_attention(const std::vector<float>& q, const std::vector<TestSequence>& sequences, const KvContent& content,
                            int32_t heads, int32_t kv_heads, int32_t head_dim, double scale, int32_t window) {
  const auto dh = static_cast<size_t>(head_dim), h_count = static_cast<size_t>(heads), hkv = static_cast<size_t>(kv_heads);
  Doubles out(q.size(), 0.0);
  size_t row = 0;
  for (size_t s = 0; s < sequences.size(); ++s) {
    for (int32_t i = 0; i < sequences[s].rows; ++i, ++row) {
      const int32_t position = sequences[s].first_position + i;
      const int32_t first = window > 0 ? std::max(0, position - window + 1) : 0;
      for (size_t h = 0; h < h_count; ++h) {
        const size_t at = (row * h_count + h) * dh, group = h / (h_count / hkv);
        Doubles scores;
        for (int32_t p = first; p <= position; ++p) {
          const size_t from = (static_cast<size_t>(p) * hkv + group) * dh;
          double dot = 0.0;
          for (size_t e = 0; e < dh; ++e) dot += static_cast<double>(q[at + e]) * static_cast<double>(content.k[s][from + e]);
          scores.push_back(dot * scale);
        }
        const Doubles p = softmax(scores);
        for (size_t j = 0; j < p.size(); ++j) {
          const size_t from = ((static_cast<size_t>(first) + j) * hkv + group) * dh;
          for (size_t e = 0; e < dh; ++e) out[at + e] += p[j] * static_cast<double>(content.v[s][from + e]);
        }
      }
    }
  }
  return out;
}

Doubles reference_logprobs(const std::vector<float>& logits) {
  Doubles out = widen(logits);
  const double top = *std::max_element(out.begin(), out.end());
  double sum = 0.0;
  for (double v : out) sum += std::exp(v - top);
  for (double& v : out) v -= top + std::log(sum);
  return out;
}

Doubles reference_filtered(const std::vector<float>& logits, const TestSampling& sampling) {
  const SamplingSpec& spec = sampling.spec;
  // Penalties, bias and division in float32, as the contract has them.
  std::vector<float> z = logits;
  for (const SeenToken& seen : sampling.seen) {
    float& v = z[static_cast<size_t>(seen.id)];
    v = v > 0.0f ? v / spec.repetition_penalty : v * spec.repetition_penalty;
    if (seen.output_count > 0) v -= spec.presence_penalty + spec.frequency_penalty * static_cast<float>(seen.output_count);
  }
  for (const LogitBias& bias : sampling.biases) z[static_cast<size_t>(bias.id)] += bias.bias;
  for (float& v : z) v /= spec.temperature;
  Doubles scores = widen(z);
  const size_t allowed = spec.allowed_vocab > 0 ? static_cast<size_t>(spec.allowed_vocab) : scores.size();
  std::fill(scores.begin() + static_cast<std::ptrdiff_t>(std::min(allowed, scores.size())), scores.end(), -kInfinity);

  std::vector<size_t> rank(scores.size());
  std::iota(rank.begin(), rank.end(), size_t{0});
  std::stable_sort(rank.begin(), rank.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  if (spec.top_k > 0 && static_cast<size_t>(spec.top_k) < scores.size()) {
    const double least = scores[rank[static_cast<size_t>(spec.top_k) - 1]];
    for (double& v : scores) v = v < least ? -kInfinity : v;
  }
  if (spec.top_p < 1.0f) {
    const Doubles p = softmax(scores);
    double before = 0.0;
    for (size_t i = 0; i < rank.size(); ++i) {
      if (i > 0 && before >= static_cast<double>(spec.top_p)) scores[rank[i]] = -kInfinity;
      before += p[rank[i]];
    }
  }
  if (spec.min_p > 0.0f) {
    const Doubles p = softmax(scores);
    const double least = static_cast<double>(spec.min_p) * *std::max_element(p.begin(), p.end());
    for (size_t i = 0; i < p.size(); ++i) scores[i] = p[i] < least ? -kInfinity : scores[i];
  }
  return scores;
}

ReferenceDraw reference_draw(const Doubles& scores, const SamplingSpec& spec) {
  double best = -kInfinity, second = -kInfinity;
  int32_t id = -1;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] == -kInfinity) continue;
    const double u = static_cast<double>(sampling_uniform(spec.seed, spec.sequence, spec.position, static_cast<uint32_t>(i)));
    const double noisy = scores[i] - std::log(-std::log(u));
    if (noisy > best) {
      second = best;
      best = noisy;
      id = static_cast<int32_t>(i);
    } else {
      second = std::max(second, noisy);
    }
  }
  return {id, best - second};
}

}  // namespace bolide::ops_test
