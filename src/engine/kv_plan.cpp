#include "engine/kv_plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/human.h"
#include "exec/memory_plan.h"

namespace bolide {
namespace {

constexpr int64_t kMaxContext = std::numeric_limits<int32_t>::max() / 2;  // positions are int32

double gib(size_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

// What the limit is, as messages put it: "22.1 GiB free on cuda:0".
std::string limit_text(const KvRequest& r) {
  if (r.limit_bytes >= r.free_bytes) return fmt::format("{:.1f} GiB free on {}", gib(r.free_bytes), r.device);
  return fmt::format("{:.1f} GiB of {} (--gpu-memory-utilization {:g} of {:.1f} GiB, {:.1f} free)", gib(r.limit_bytes), r.device,
                     r.utilization, gib(r.total_bytes), gib(r.free_bytes));
}

// Another share of the device's memory that would do, in hundredths; empty where none does.
std::string utilization_that_fits(const KvRequest& r, size_t needed) {
  if (r.limit_bytes >= r.free_bytes || needed > r.free_bytes || r.total_bytes == 0) return "";
  const double share = std::ceil(100.0 * static_cast<double>(needed) / static_cast<double>(r.total_bytes)) / 100.0;
  return share <= 1.0 ? fmt::format("--gpu-memory-utilization {:g}", share) : "";
}

std::string does_not_fit(const KvRequest& r, int64_t ctx, int64_t fitting_tokens) {
  const size_t kv = static_cast<size_t>(ctx) * r.bytes_per_token;
  std::string text = fmt::format("does not fit: weights {:.1f} GiB + workspace {:.1f} + KV {:.1f} ({} tokens) > {}.", gib(r.weights_bytes),
                                 gib(r.workspace_bytes + kMemoryReserve), gib(kv), with_commas(ctx), limit_text(r));
  const std::string share = utilization_that_fits(r, r.weights_bytes + r.workspace_bytes + kMemoryReserve + kv);
  if (fitting_tokens <= 0) {
    if (!share.empty()) return text + " Fits: " + share;
    return text + " No context fits: free memory, or use a smaller model" + (r.device == "cpu" ? "" : ", or --device cpu");
  }
  text += " Fits: --ctx-size " + with_commas(fitting_tokens);
  if (r.kv_dtype == DType::f32 && 2 * fitting_tokens >= ctx) text += ", or --kv-cache-dtype bfloat16";
  return text + (share.empty() ? "" : ", or " + share);
}

int32_t logprob_rows(const EngineOptions& options, int32_t chunk_tokens) {
  const int32_t rows = std::min(options.max_logprob_rows, options.max_num_batched_tokens);
  return options.deterministic && rows > 0 ? std::max(rows, options.max_num_seqs - 1 + chunk_tokens) : rows;
}

}  // namespace

// How a step is cut when a sequence's pieces must not depend on its neighbours.
int32_t piece_tokens(const EngineOptions& options) {
  int32_t size = options.chunk_tokens;
  if (!options.deterministic) return size;
  // A piece must find room beside one row for each of the other sequences.
  while (size > options.max_num_batched_tokens - options.max_num_seqs + 1) size /= 2;
  return std::max(size, 1);
}

int32_t whole_pieces_of(const EngineOptions& options, int32_t chunk_tokens) {
  return options.deterministic ? options.max_num_batched_tokens / chunk_tokens : 0;
}

size_t memory_limit(const DeviceInfo& device, double utilization) {
  if (device.id == "cpu") return device.memory_free;
  return std::min(device.memory_free, static_cast<size_t>(utilization * static_cast<double>(device.memory_total)));
}

MemoryNeeds memory_needs(const ModelConfig& config, size_t weights_bytes, DType weights_dtype, const EngineOptions& options,
                         const Backend& backend, const DeviceInfo& device) {
  MemoryNeeds needs;
  needs.kv_dtype = options.kv_dtype.value_or(backend.default_kv_dtype(weights_dtype));
  const int64_t asked_ctx = options.ctx_size > 0 ? std::min(options.ctx_size, config.context) : config.context;
  const int32_t chunk_tokens = piece_tokens(options);
  needs.capacity =
      step_capacity(options.max_num_batched_tokens, options.max_num_seqs, logprob_rows(options, chunk_tokens), asked_ctx, chunk_tokens);
  // Each whole piece stands in a step as an entry of its own, with a table of its own.
  const int32_t pieces = whole_pieces_of(options, chunk_tokens);
  needs.capacity.sequences += pieces;
  const int64_t tables = int64_t{needs.capacity.chunk_ids} + int64_t{pieces} * chunks_for(asked_ctx, 1, chunk_tokens);
  needs.capacity.chunk_ids = static_cast<int32_t>(std::min<int64_t>(tables, std::numeric_limits<int32_t>::max()));
  KvRequest& r = needs.request;
  r.ctx_size = options.ctx_size;
  r.model_context = config.context;
  r.max_num_seqs = options.max_num_seqs;
  r.chunk_tokens = chunk_tokens;
  r.kv_cache_bytes = static_cast<size_t>(options.kv_cache_bytes);
  r.bytes_per_token = static_cast<size_t>(config.kv_bytes_per_token(needs.kv_dtype));
  r.kv_dtype = needs.kv_dtype;
  r.free_bytes = device.memory_free;
  r.limit_bytes = memory_limit(device, options.gpu_memory_utilization);
  r.utilization = device.id == "cpu" ? 0 : options.gpu_memory_utilization;
  r.total_bytes = device.memory_total;
  r.weights_bytes = weights_bytes;
  r.workspace_bytes = workspace_bytes(config, needs.capacity, backend.activation_dtype()) +
                      backend.scratch_bytes(needs.capacity, model_dims(config, needs.kv_dtype));
  r.device = device.id;
  return needs;
}

KvPlan plan_kv(const KvRequest& r) {
  KvPlan plan;
  const int64_t model_context = std::clamp<int64_t>(r.model_context, 1, kMaxContext);
  plan.ctx_size = r.ctx_size > 0 ? std::min(r.ctx_size, model_context) : model_context;
  plan.ctx_source = r.ctx_size > 0 && r.ctx_size <= model_context ? "--ctx-size" : "from config.json";
  if (r.ctx_size > model_context) {
    plan.notes.push_back(
        fmt::format("--ctx-size {} is more than the model's context: {} is used", with_commas(r.ctx_size), with_commas(model_context)));
  }

  const size_t taken = r.weights_bytes + r.workspace_bytes + kMemoryReserve;
  const size_t left = r.limit_bytes > taken ? r.limit_bytes - taken : 0;
  const size_t chunk_bytes = r.bytes_per_token * static_cast<size_t>(r.chunk_tokens);
  if (r.kv_cache_bytes > left) {
    throw MemoryError(
        fmt::format("--kv-cache-memory {} does not fit: weights {} + workspace {} leave {} of {}. Fits: --kv-cache-memory {}M",
                    human_bytes(r.kv_cache_bytes), human_bytes(r.weights_bytes), human_bytes(r.workspace_bytes + kMemoryReserve),
                    human_bytes(left), limit_text(r), left >> 20));
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
                                    human_bytes(r.kv_cache_bytes), with_commas(fitting), with_commas(plan.ctx_size), with_commas(fitting),
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
