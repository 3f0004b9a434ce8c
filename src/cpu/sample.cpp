// One token per row of logits.
//
// Greedy: argmax, ties to the lowest id. Otherwise, over z = (penalised and biased logit) / temperature:
//   top-k   keeps z >= the k-th greatest z (ties stay)
//   top-p   keeps an entry while the probability of those ranked before it is below p (rank: z falling, id rising)
//   min-p   keeps exp(z - max z) >= min_p
// as transformers' warpers do in this order, and then the Gumbel-max draw: argmax of z - log(-log u). u has 23 bits, so the Gumbel
// term lies in [-2.812, 16.636], and an entry more than 19.45 below the greatest z cannot win: only those within kReach are looked
// at, unless a filter has to count more.
// Nothing is sorted but the few entries around a cut. The k-th greatest of the maxima of short blocks is a lower bound of the k-th
// greatest entry; the cut of top-p is closed in on by bisection, with a pass over the row for the mass above each guess.
//
// Scratch per row in hand: z [V] f32 and candidates [V + 1].
#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/error.h"
#include "core/philox.h"
#include "cpu/kernels.h"
#include "cpu/sample_kernels.h"

namespace bolide {
namespace {

constexpr float kReach = 19.5f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

size_t slot_bytes(int32_t vocab) {
  const auto v = (static_cast<size_t>(vocab) + 15) / 16 * 16;
  return v * sizeof(float) + (v + 16) * sizeof(Candidate);
}

struct SampleRow {
  int32_t index;
  const float* logits;
  int32_t vocab;    // V
  int32_t allowed;  // ids that may be drawn: [0, allowed)
  const SamplingSpec& spec;
  const SeenToken *seen, *seen_end;
  const LogitBias *bias, *bias_end;
  float* z;               // [V] scratch
  Candidate* candidates;  // [V + 1] scratch

  bool penalised() const {
    return seen != seen_end && (spec.repetition_penalty != 1.0f || spec.presence_penalty != 0.0f || spec.frequency_penalty != 0.0f);
  }
};

std::string where(const SampleRow& row) {
  return fmt::format("logits row {} (token at position {} of sequence {})", row.index, row.spec.position, row.spec.sequence);
}

RowTop checked_top(const SampleRow& row) {
  const RowTop top = row_top(row.logits, row.vocab);
  if (top.has_nan || !std::isfinite(top.value)) {
    throw Error(
        fmt::format("sample: {} holds {}. Check the checkpoint's weights (inspect it, or load another copy); if it was saved as "
                    "float16, its values may overflow: use a bfloat16 or float32 copy",
                    where(row),
                    top.has_nan     ? "NaN"
                    : top.value > 0 ? "infinity"
                                    : "nothing but -infinity"));
  }
  return top;
}

// Log-probabilities of the unmodified logits: of `id`, and of the most probable ids.
void report_logprobs(const SampleRow& row, float top, int32_t id, SampledToken& out) {
  const double log_sum = static_cast<double>(top) + std::log(row_exp_sum(row.logits, row.vocab, top));
  const auto logprob = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - log_sum); };
  out.logprob = logprob(row.logits[id]);
  Candidate best[kMaxTopLogprobs];
  out.top_count = std::clamp(row.spec.top_logprobs, 0, std::min(kMaxTopLogprobs, row.vocab));
  row_top_entries(row.logits, row.vocab, out.top_count, best);
  for (int32_t i = 0; i < out.top_count; ++i) {
    out.top_ids[i] = best[i].id;
    out.top_logprobs[i] = logprob(best[i].score);
  }
}

// Penalties of seen tokens, then biases, on a copy of the row. Ids outside the vocabulary cannot be drawn and are passed over.
void modify(const SampleRow& row) {
  std::copy_n(row.logits, row.allowed, row.z);
  const SamplingSpec& spec = row.spec;
  if (row.penalised()) {
    for (const SeenToken* token = row.seen; token != row.seen_end; ++token) {
      if (token->id < 0 || token->id >= row.allowed) continue;
      float& z = row.z[token->id];
      z = z > 0.0f ? z / spec.repetition_penalty : z * spec.repetition_penalty;
      if (token->output_count > 0) z -= spec.presence_penalty + spec.frequency_penalty * static_cast<float>(token->output_count);
    }
  }
  for (const LogitBias* bias = row.bias; bias != row.bias_end; ++bias) {
    if (bias->id >= 0 && bias->id < row.allowed) row.z[bias->id] += bias->bias;
  }
}

bool ranks_before(const Candidate& a, const Candidate& b) { return a.score > b.score || (a.score == b.score && a.id < b.id); }

double weight(const Candidate& candidate, float peak) { return static_cast<double>(std::exp(candidate.score - peak)); }

double total_weight(const Candidate* begin, const Candidate* end, float peak) {
  double sum = 0.0;
  for (; begin != end; ++begin) sum += weight(*begin, peak);
  return sum;
}

// Candidates for top-k: all entries from the bound on, cut to the k greatest and ties of the k-th. Returns their number.
int32_t select_top_k(const SampleRow& row, int32_t k) {
  float bound = -kInfinity;
  const int32_t blocks = (row.allowed + kSelectBlock - 1) / kSelectBlock;
  if (k <= blocks) {
    // The candidates' memory serves for the maxima first.
    auto* tops = reinterpret_cast<float*>(row.candidates);
    row_block_tops(row.z, row.allowed, tops);
    std::nth_element(tops, tops + (k - 1), tops + blocks, std::greater<>());
    bound = tops[k - 1];
  }
  Candidate* candidates = row.candidates;
  const int32_t count = row_select(row.z, row.allowed, bound, kInfinity, candidates);
  if (count <= k) return count;
  const auto greater = [](const Candidate& a, const Candidate& b) { return a.score > b.score; };
  std::nth_element(candidates, candidates + (k - 1), candidates + count, greater);
  const float least = candidates[k - 1].score;
  const auto kept = std::partition(candidates + k, candidates + count, [&](const Candidate& c) { return c.score == least; });
  return static_cast<int32_t>(kept - candidates);
}

// Of candidates, the first `low` of which are kept and weigh `before`, keeps those that by rank come before the weights reach `mass`:
// halves the range that holds the cut until it is small enough to sort. At least one candidate stays. Returns their number.
int32_t keep_top_p(Candidate* candidates, int32_t low, int32_t count, double before, double mass, float peak) {
  int32_t high = count;
  while (high - low > 32) {
    const int32_t middle = low + (high - low) / 2;
    std::nth_element(candidates + low, candidates + middle, candidates + high, ranks_before);
    const double half = total_weight(candidates + low, candidates + middle, peak);
    if (before + half >= mass) {
      high = middle;
    } else {
      before += half;
      low = middle;
    }
  }
  std::sort(candidates + low, candidates + high, ranks_before);
  while (low < high && before < mass) before += weight(candidates[low++], peak);
  return std::max(low, 1);
}

// Candidates for top-p over the whole row: bisects for the score at which the entries above reach the mass.
int32_t select_top_p(const SampleRow& row, float peak) {
  constexpr int32_t kFew = 256, kSteps = 24;
  const double mass = static_cast<double>(row.spec.top_p) * row_exp_sum(row.z, row.allowed, peak);
  float low = peak - kReach, high = kInfinity;  // entries >= high weigh less than `mass`; those >= low weigh more, or are all in reach
  RowMass above{0.0, 0}, from = row_mass(row.z, row.allowed, peak, low);
  for (int32_t step = 0; step < kSteps && from.sum >= mass && from.count - above.count > kFew; ++step) {
    const float middle = low + (std::min(high, peak) - low) / 2;
    if (!(middle > low)) break;
    const RowMass guess = row_mass(row.z, row.allowed, peak, middle);
    if (guess.sum >= mass) {
      low = middle;
      from = guess;
    } else {
      high = middle;
      above = guess;
    }
  }
  const int32_t kept = high < kInfinity ? row_select(row.z, row.allowed, high, kInfinity, row.candidates) : 0;
  const int32_t count = kept + row_select(row.z, row.allowed, low, high, row.candidates + kept);
  return keep_top_p(row.candidates, kept, count, above.sum, mass, peak);
}

// Candidates that the filters leave, of row.z over [0, allowed), whose greatest value is `peak`.
int32_t filter(const SampleRow& row, float peak) {
  const SamplingSpec& spec = row.spec;
  Candidate* candidates = row.candidates;
  int32_t count;
  if (spec.top_k > 0 && spec.top_k < row.allowed) {
    count = select_top_k(row, spec.top_k);
    if (spec.top_p < 1.0f) {
      const double mass = static_cast<double>(spec.top_p) * total_weight(candidates, candidates + count, peak);
      count = keep_top_p(candidates, 0, count, 0.0, mass, peak);
    }
  } else if (spec.top_p < 1.0f) {
    count = select_top_p(row, peak);
  } else {
    count = row_select(row.z, row.allowed, peak - kReach, kInfinity, candidates);
  }
  if (spec.min_p > 0.0f) {
    const auto kept = std::remove_if(candidates, candidates + count,
                                     [&](const Candidate& c) { return c.score != peak && std::exp(c.score - peak) < spec.min_p; });
    count = static_cast<int32_t>(kept - candidates);
  }
  return count;
}

// Whether a candidate that needs a Gumbel term of `need` to lead may have it with this u. -log(-log u) >= need asks for
// u >= exp(-exp(-need)) >= 1 - exp(-need); two steps of that bound spare nearly all logarithms.
bool may_lead(float need, float u) { return !((need > 4.0f && u < 0.98f) || (need > 8.0f && u < 0.9995f)); }

int32_t gumbel_max(const SampleRow& row, int32_t count) {
  const SamplingSpec& spec = row.spec;
  Candidate best{-kInfinity, row.vocab};
  Philox4 block{};
  int32_t block_index = -1;  // ids of a block are neighbours in the list more often than not
  for (const Candidate* c = row.candidates; c != row.candidates + count; ++c) {
    if (c->id / 4 != block_index) {
      block_index = c->id / 4;
      block = sampling_block(spec.seed, spec.sequence, spec.position, static_cast<uint32_t>(c->id));
    }
    const float u = uniform_open(block.v[c->id & 3]);
    if (!may_lead(best.score - c->score, u)) continue;
    const Candidate noisy{c->score - std::log(-std::log(u)), c->id};
    if (ranks_before(noisy, best)) best = noisy;
  }
  return best.id;
}

int32_t draw(SampleRow& row, const RowTop& top) {
  const bool modified = row.penalised() || row.bias != row.bias_end;
  if (modified) modify(row);
  const float* scores = modified ? row.z : row.logits;
  const RowTop best = modified || row.allowed < row.vocab ? row_top(scores, row.allowed) : top;
  if (best.has_nan || !(best.value > -kInfinity)) {
    throw Error(fmt::format("sample: penalties and biases leave no token to draw in {}. Check --logit-bias and the penalties", where(row)));
  }
  if (!(row.spec.temperature > 0.0f)) return best.id;
  const float peak = best.value / row.spec.temperature;
  // So small a temperature that the quotient overflows: the limit is the greatest logit.
  if (!std::isfinite(peak)) return best.id;
  row_divide(scores, row.allowed, row.spec.temperature, row.z);
  return gumbel_max(row, filter(row, peak));
}

void sample_row(const SampleArgs& args, int32_t r, std::byte* slot) {
  const StepInputs& in = *args.in;
  const SamplingSpec& spec = in.sampling[r];
  const auto vocab = static_cast<size_t>(args.vocab);
  const size_t z_bytes = (vocab + 15) / 16 * 16 * sizeof(float);
  SampleRow row{r,
                args.logits + static_cast<size_t>(r) * vocab,
                args.vocab,
                spec.allowed_vocab > 0 ? std::min(spec.allowed_vocab, args.vocab) : args.vocab,
                spec,
                in.seen + in.seen_offsets[r],
                in.seen + in.seen_offsets[r + 1],
                in.biases + in.bias_offsets[r],
                in.biases + in.bias_offsets[r + 1],
                reinterpret_cast<float*>(slot),
                reinterpret_cast<Candidate*>(slot + z_bytes)};
  SampledToken& out = args.out[r];
  out = SampledToken{};
  const RowTop top = checked_top(row);
  BOLIDE_CHECK(spec.target < args.vocab);
  out.id = spec.target >= 0 ? spec.target : draw(row, top);
  if (spec.target >= 0 || spec.top_logprobs >= 0) report_logprobs(row, top.value, out.id, out);
}

}  // namespace

size_t cpu_sampling_scratch(const StepCapacity& capacity, const ModelDims& dims, int threads) {
  return static_cast<size_t>(std::min(threads, capacity.logit_rows)) * slot_bytes(dims.vocab);
}

void cpu_sample(CpuContext& context, const SampleArgs& args) {
  const int32_t rows = args.in->counts->logit_rows, threads = context.pool.size();
  if (rows == 0) return;
  const size_t bytes = slot_bytes(args.vocab);
  BOLIDE_CHECK(static_cast<size_t>(std::min(rows, threads)) * bytes <= context.sampling.bytes);
  std::byte* scratch = context.sampling.data.get();
  if (rows == 1) return sample_row(args, 0, scratch);
  context.pool.parallel_for(rows, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t r = begin; r < end; ++r) {
      // With few rows a slot belongs to a row, so that no more slots are needed than there are rows.
      const auto slot = static_cast<size_t>(rows <= threads ? r : worker);
      sample_row(args, static_cast<int32_t>(r), scratch + slot * bytes);
    }
  });
}

}  // namespace bolide
