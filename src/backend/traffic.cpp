#include "backend/traffic.h"

#include <algorithm>

namespace bolide {
namespace {

constexpr double kFloat = sizeof(float);

double size_of(const ActivationBuffer& buffer) { return static_cast<double>(dtype_size(buffer.dtype)); }
double elements(const Matrix& matrix) { return static_cast<double>(matrix.rows()) * static_cast<double>(matrix.columns()); }
double floats(const float* present, double count) { return present ? kFloat * count : 0.0; }

// K and V of one token in one layer.
double kv_row_bytes(const KvCache& kv) {
  const KvCacheSpec& spec = kv.spec();
  return 2.0 * spec.kv_heads * spec.head_dim * static_cast<double>(dtype_size(spec.dtype));
}

struct Count {
  const StepShape& shape;
  double tokens = static_cast<double>(shape.tokens());

  double product(const Matrix& weight, double rows) const { return 2.0 * rows * elements(weight); }

  OpTraffic operator()(const EmbedArgs& a) const {
    OpTraffic t;
    t.weight_bytes = tokens * static_cast<double>(a.table->bytes()) / static_cast<double>(a.table->rows()) + kFloat * a.head_dim / 2;
    t.activation_bytes = kFloat * tokens * (a.hidden + a.head_dim);
    return t;
  }
  OpTraffic operator()(const NormQkvArgs& a) const {
    OpTraffic t;
    t.weight_bytes = static_cast<double>(a.qkv->bytes()) + kFloat * a.hidden + floats(a.bias, static_cast<double>(a.qkv->rows())) +
                     floats(a.q_norm, a.head_dim) + floats(a.k_norm, a.head_dim);
    t.kv_bytes = tokens * kv_row_bytes(*a.kv);
    t.activation_bytes = tokens * (kFloat * (a.hidden + a.head_dim) + size_of(a.q) * a.heads * a.head_dim);
    t.operations = product(*a.qkv, tokens);
    return t;
  }
  OpTraffic operator()(const AttentionArgs& a) const {
    OpTraffic t;
    double keys = 0, pairs = 0;
    for (const SequenceRows& s : shape.sequences) {
      const int64_t first = int64_t{s.kv_length} - s.rows;  // position of the first row
      const int64_t window = a.window > 0 ? a.window : int64_t{s.kv_length};
      if (s.rows > 0) keys += static_cast<double>(s.kv_length - std::max<int64_t>(0, first + 1 - window));
      for (int64_t row = 0; row < s.rows; ++row) pairs += static_cast<double>(std::min(first + row + 1, window));
    }
    t.kv_bytes = keys * kv_row_bytes(*a.kv);
    t.activation_bytes = tokens * a.heads * a.head_dim * (size_of(a.q) + size_of(a.out));
    t.operations = 4.0 * pairs * a.heads * a.head_dim;
    return t;
  }
  OpTraffic operator()(const ProjectAddArgs& a) const {
    const auto rows = static_cast<double>(a.weight->rows()), columns = static_cast<double>(a.weight->columns());
    OpTraffic t;
    t.weight_bytes = static_cast<double>(a.weight->bytes()) + floats(a.bias, rows);
    t.activation_bytes = tokens * (size_of(a.h) * columns + 2 * kFloat * rows);
    t.operations = product(*a.weight, tokens);
    return t;
  }
  OpTraffic operator()(const NormGateUpArgs& a) const {
    OpTraffic t;
    t.weight_bytes = static_cast<double>(a.gate_up->bytes()) + kFloat * a.hidden + floats(a.bias, static_cast<double>(a.gate_up->rows()));
    t.activation_bytes = tokens * (kFloat * a.hidden + size_of(a.out) * a.mlp);
    t.operations = product(*a.gate_up, tokens);
    return t;
  }
  OpTraffic operator()(const LogitsArgs& a) const {
    const double rows = shape.logit_rows;
    if (rows == 0) return {};
    OpTraffic t;
    t.weight_bytes = static_cast<double>(a.head->bytes()) + kFloat * a.hidden;
    t.activation_bytes = kFloat * rows * (static_cast<double>(a.hidden) + a.vocab);
    t.operations = product(*a.head, rows);
    return t;
  }
  OpTraffic operator()(const SampleArgs& a) const {
    OpTraffic t;
    t.activation_bytes = static_cast<double>(shape.logit_rows) * (kFloat * a.vocab + sizeof(SampledToken));
    return t;
  }
};

struct Name {
  std::string_view operator()(const EmbedArgs&) const { return "embed"; }
  std::string_view operator()(const NormQkvArgs&) const { return "norm_qkv"; }
  std::string_view operator()(const AttentionArgs&) const { return "attention"; }
  std::string_view operator()(const ProjectAddArgs&) const { return "project_add"; }
  std::string_view operator()(const NormGateUpArgs&) const { return "norm_gate_up"; }
  std::string_view operator()(const LogitsArgs&) const { return "logits"; }
  std::string_view operator()(const SampleArgs&) const { return "sample"; }
};

}  // namespace

int64_t StepShape::tokens() const {
  int64_t total = 0;
  for (const SequenceRows& sequence : sequences) total += sequence.rows;
  return total;
}

OpTraffic& OpTraffic::operator+=(const OpTraffic& other) {
  weight_bytes += other.weight_bytes;
  kv_bytes += other.kv_bytes;
  activation_bytes += other.activation_bytes;
  operations += other.operations;
  return *this;
}

OpTraffic op_traffic(const Op& op, const StepShape& shape) { return std::visit(Count{shape}, op); }

std::string_view op_name(const Op& op) { return std::visit(Name{}, op); }

}  // namespace bolide
