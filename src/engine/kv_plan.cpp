#include "engine/kv_plan.h"

#include <algorithm>
#include <limits>

#include "core/error.h"
#include "core/human.h"
#include "exec/memory_plan.h"

namespace bolide {
namespace {

// Kept free for the backend's scratch and for the rest of the program.
constexpr size_t kReserve = size_t{64} << 20;

constexpr int64_t kMaxContext = std::numeric_limits<int32_t>::max() / 2;  // positions are int32

double gib(size_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

std::string does_not_fit(const KvRequest& r, int64_t ctx, int64_t fitting_tokens) {
  const size_t kv = static_cast<size_t>(ctx) * r.bytes_per_token;
  std::string text =
      fmt::format("does not fit: weights {:.1f} GiB + workspace {:.1f} + KV {:.1f} ({} tokens) > {:.1f} GiB free on {}.",
                  gib(r.weights_bytes), gib(r.workspace_bytes + kReserve), gib(kv), with_commas(ctx), gib(r.free_bytes), r.device);
  if (fitting_tokens <= 0) {
    return text + " No context fits: free memory, or use a smaller model" + (r.device == "cpu" ? "" : ", or --device cpu");
  }
  text += fmt::format(" Fits: --ctx-size {}", fitting_tokens);
  if (r.kv_dtype == DType::f32 && 2 * fitting_tokens >= ctx) text += ", or --kv-cache-dtype bfloat16";
  return text;
}

}  // namespace

KvPlan plan_kv(const KvRequest& r) {
  KvPlan plan;
  const int64_t model_context = std::clamp<int64_t>(r.model_context, 1, kMaxContext);
  plan.ctx_size = r.ctx_size > 0 ? std::min(r.ctx_size, model_context) : model_context;
  plan.ctx_source = r.ctx_size > 0 && r.ctx_size <= model_context ? "--ctx-size" : "from config.json";
  if (r.ctx_size > model_context) {
    plan.notes.push_back(
        fmt::format("--ctx-size {} is more than the model's context: {} is used", with_commas(r.ctx_size), with_commas(model_context)));
  }

  const size_t taken = r.weights_bytes + r.workspace_bytes + kReserve;
  const size_t left = r.free_bytes > taken ? r.free_bytes - taken : 0;
  const size_t chunk_bytes = r.bytes_per_token * static_cast<size_t>(r.chunk_tokens);
  if (r.kv_cache_bytes > left) {
    throw MemoryError(
        fmt::format("--kv-cache-memory {} does not fit: weights {} + workspace {} leave {} of {} free on {}. Fits: "
                    "--kv-cache-memory {}M",
                    human_bytes(r.kv_cache_bytes), human_bytes(r.weights_bytes), human_bytes(r.workspace_bytes + kReserve),
                    human_bytes(left), human_bytes(r.free_bytes), r.device, left >> 20));
  }
  const size_t budget = r.kv_cache_bytes > 0 ? r.kv_cache_bytes : left;
  // Slots (chunk * C + offset) are int32.
  const auto affordable = static_cast<int64_t>(
      std::min<size_t>(budget / chunk_bytes, static_cast<size_t>(std::numeric_limits<int32_t>::max() / r.chunk_tokens)));
  const int64_t wanted = chunks_for(plan.ctx_size, r.max_num_seqs, r.chunk_tokens);
  const int64_t one = chunks_for(plan.ctx_size, 1, r.chunk_tokens);
  if (affordable < one) {
    const int64_t fitting = affordable * r.chunk_tokens;
    const bool asked_for = plan.ctx_source == "--ctx-size";
    if (fitting == 0 || (asked_for && r.kv_cache_bytes == 0)) throw MemoryError(does_not_fit(r, plan.ctx_size, fitting));
    if (asked_for) {
      throw MemoryError(fmt::format("--kv-cache-memory {} holds {} tokens, --ctx-size asks for {}. Use --ctx-size {}, or give it {}M",
                                    human_bytes(r.kv_cache_bytes), with_commas(fitting), with_commas(plan.ctx_size), fitting,
                                    ((static_cast<size_t>(one) * chunk_bytes) >> 20) + 1));
    }
    plan.notes.push_back(fmt::format("context cut from {} to {} tokens: the KV cache has {} on {}", with_commas(plan.ctx_size),
                                     with_commas(fitting), human_bytes(budget), r.device));
    plan.ctx_size = fitting;
    plan.ctx_source = r.kv_cache_bytes > 0 ? "--kv-cache-memory" : "what fits in memory";
  }
  plan.chunks = static_cast<int32_t>(std::min(affordable, wanted));
  if (plan.chunks < chunks_for(plan.ctx_size, r.max_num_seqs, r.chunk_tokens)) {
    plan.notes.push_back(
        fmt::format("the KV cache holds {} tokens, not {} sequences of {}: sequences wait or are computed again when it "
                    "is full",
                    with_commas(int64_t{plan.chunks} * r.chunk_tokens), with_commas(r.max_num_seqs), with_commas(plan.ctx_size)));
  }
  return plan;
}

}  // namespace bolide
