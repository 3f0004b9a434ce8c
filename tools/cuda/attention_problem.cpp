#include "attention_problem.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/error.h"

namespace bolide::attention_bench {
namespace {

constexpr CudaSite kSite{"bench"};
constexpr int32_t kLayers = 2, kLayer = 1;

// Steele, Lea and Flood's SplitMix64: one well-mixed number per key.
uint64_t mix(uint64_t key) {
  key += 0x9e3779b97f4a7c15u;
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9u;
  key = (key ^ (key >> 27)) * 0x94d049bb133111ebu;
  return key ^ (key >> 31);
}

}  // namespace

Device::Device() {
  check_cuda(cudaSetDevice(0), "cudaSetDevice", kSite);
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "device properties", kSite);
  context.multiprocessors = properties.multiProcessorCount;
  context.compute_capability = 10 * properties.major + properties.minor;
  check_cuda(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking), "stream", kSite);
  void* fault = nullptr;
  check_cuda(cudaHostAlloc(&fault, sizeof(DeviceFault), cudaHostAllocMapped), "pinned host memory", kSite);
  std::memset(fault, 0, sizeof(DeviceFault));
  context.fault = static_cast<DeviceFault*>(fault);
}

Device::~Device() {
  cudaStreamSynchronize(context.stream);
  cudaFreeHost(context.fault);
  cudaStreamDestroy(context.stream);
}

void Device::reserve(const StepCapacity& capacity, const Heads& heads) {
  sync();
  context.capacity = capacity;
  const AttentionScratch sizes =
      attention_scratch(context.multiprocessors, std::max(std::min(capacity.tokens, kFewRows), capacity.sequences), heads.heads,
                        heads.kv_heads, heads.head_dim);
  partials_ = std::make_unique<CudaBuffer>(sizes.partial_bytes, 0, "workspace");
  arrivals_ = std::make_unique<CudaBuffer>(sizes.arrival_bytes, 0, "workspace");
  check_cuda(cudaMemset(arrivals_->data(), 0, sizes.arrival_bytes), "memset", kSite);
  check_cuda(cudaDeviceSynchronize(), "memset", kSite);
  context.scratch.attention = static_cast<float*>(partials_->data());
  context.scratch.attention_bytes = sizes.partial_bytes;
  context.scratch.arrivals = static_cast<int32_t*>(arrivals_->data());
  context.scratch.arrivals_bytes = sizes.arrival_bytes;
}

void Device::sync() {
  const cudaError_t status = cudaStreamSynchronize(context.stream);
  const volatile DeviceFault* fault = context.fault;
  if (fault->code != DeviceFault::none)
    throw Error(fmt::format("a kernel reports fault {} (row or block {}, value or thread {})", int{fault->code}, int{fault->row},
                            int{fault->value}));
  check_cuda(status, "cudaStreamSynchronize", kSite);
}

uint16_t Problem::element(Kind kind, int32_t sequence, int32_t position, int32_t head, int32_t column) {
  const uint64_t row = mix(uint64_t{kind} << 56 | static_cast<uint64_t>(sequence) << 40 | static_cast<uint64_t>(position) << 12 |
                           static_cast<uint64_t>(head));
  const auto bits = static_cast<uint32_t>(mix(row + static_cast<uint64_t>(column)) >> 40);
  return f32_to_bf16((static_cast<float>(bits) / static_cast<float>(1 << 23) - 1.0f) * 1.7320508f);
}

int32_t Problem::deal_chunks() {
  int32_t needed = 3;  // some that nobody uses
  for (int32_t length : lengths) needed += (length + chunk - 1) / chunk;
  std::vector<int32_t> free(static_cast<size_t>(needed));
  std::iota(free.begin(), free.end(), 0);
  for (size_t i = free.size() - 1; i > 0; --i) std::swap(free[i], free[mix(i) % (i + 1)]);
  for (int32_t length : lengths) {
    const auto count = static_cast<std::ptrdiff_t>((length + chunk - 1) / chunk);
    chunks.emplace_back(free.end() - count, free.end());
    free.erase(free.end() - count, free.end());
  }
  return needed;
}

Problem::Problem(const Heads& h, int32_t chunk_tokens, const std::vector<int32_t>& sequence_lengths)
    : heads(h), chunk(chunk_tokens), lengths(sequence_lengths) {
  const int32_t needed = deal_chunks();
  cache = std::make_unique<CudaKvCache>(KvCacheSpec{kLayers, h.kv_heads, h.head_dim, chunk, needed, DType::bf16}, 0);

  const auto dh = static_cast<size_t>(h.head_dim), block = static_cast<size_t>(chunk) * dh;
  std::vector<uint16_t> image(static_cast<size_t>(needed * h.kv_heads) * 2 * block, 0xffff);
  for (size_t s = 0; s < lengths.size(); ++s) {
    for (int32_t position = 0; position < lengths[s]; ++position) {
      const auto id = static_cast<size_t>(chunks[s][static_cast<size_t>(position / chunk)]);
      for (int32_t head = 0; head < h.kv_heads; ++head) {
        uint16_t* k = image.data() + (id * h.kv_heads + head) * 2 * block + position % chunk * dh;
        for (int32_t i = 0; i < h.head_dim; ++i) {
          k[i] = element(key, static_cast<int32_t>(s), position, head, i);
          k[block + i] = element(value, static_cast<int32_t>(s), position, head, i);
        }
      }
    }
  }
  const KvView view = cache->view();
  const size_t layer_bytes = image.size() * sizeof(uint16_t);
  check_cuda(cudaMemset(view.data, 0xff, kLayers * layer_bytes), "memset", kSite);
  check_cuda(cudaMemcpy(static_cast<std::byte*>(view.data) + kLayer * layer_bytes, image.data(), layer_bytes, cudaMemcpyHostToDevice),
             "upload", kSite);
}

Problem::Problem(const Heads& h, int32_t chunk_tokens, const std::vector<int32_t>& sequence_lengths, int32_t layers, DType dtype)
    : heads(h), chunk(chunk_tokens), lengths(sequence_lengths) {
  cache = std::make_unique<CudaKvCache>(KvCacheSpec{layers, h.kv_heads, h.head_dim, chunk, deal_chunks(), dtype}, 0);
  constexpr size_t kNoise = size_t{1} << 22;
  std::vector<uint64_t> noise(kNoise / sizeof(uint64_t));
  // Neither format has an infinity or a NaN without this bit of its exponent.
  for (size_t i = 0; i < noise.size(); ++i) noise[i] = mix(i) & (dtype == DType::f8 ? 0xbfbfbfbfbfbfbfbfu : 0xbfffbfffbfffbfffu);
  const size_t bytes = cache->spec().bytes();
  auto* data = static_cast<std::byte*>(cache->view().data);
  for (size_t at = 0; at < bytes; at += kNoise)
    check_cuda(cudaMemcpy(data + at, noise.data(), std::min(kNoise, bytes - at), cudaMemcpyHostToDevice), "upload", kSite);
}

float Problem::scale() const { return 2.0f / std::sqrt(static_cast<float>(heads.head_dim)); }

std::vector<double> Problem::reference(int32_t sequence, int32_t position, int32_t head, int32_t window) const {
  const int32_t kv_head = head / (heads.heads / heads.kv_heads), first = window > 0 ? std::max(0, position + 1 - window) : 0;
  const auto at = [&](Kind kind, int32_t where, int32_t which, int32_t i) {
    return static_cast<double>(bf16_to_f32(element(kind, sequence, where, which, i)));
  };
  std::vector<double> q, scores, out(static_cast<size_t>(heads.head_dim), 0.0);
  for (int32_t i = 0; i < heads.head_dim; ++i) q.push_back(at(query, position, head, i));
  for (int32_t p = first; p <= position; ++p) {
    double sum = 0.0;
    for (int32_t i = 0; i < heads.head_dim; ++i) sum += q[static_cast<size_t>(i)] * at(key, p, kv_head, i);
    scores.push_back(sum * static_cast<double>(scale()));
  }
  const double top = *std::max_element(scores.begin(), scores.end());
  double total = 0.0;
  for (int32_t p = first; p <= position; ++p) {
    const double weight = std::exp(scores[static_cast<size_t>(p - first)] - top);
    total += weight;
    for (int32_t i = 0; i < heads.head_dim; ++i) out[static_cast<size_t>(i)] += weight * at(value, p, kv_head, i);
  }
  for (double& v : out) v /= total;
  return out;
}

Step::Step(Device& device, const Problem& problem, const std::vector<Span>& step_spans, int32_t attention_window)
    : spans(step_spans), window(attention_window), device_(device), problem_(problem) {
  std::vector<int32_t> positions, row_sequences, query_offsets{0}, kv_lengths, chunk_offsets{0}, chunk_ids;
  std::vector<uint16_t> q;
  for (const Span& span : spans) {
    for (int32_t i = 0; i < span.rows; ++i) {
      positions.push_back(span.first + i);
      row_sequences.push_back(static_cast<int32_t>(kv_lengths.size()));
      for (int32_t head = 0; head < problem.heads.heads; ++head) {
        for (int32_t d = 0; d < problem.heads.head_dim; ++d)
          q.push_back(Problem::element(Problem::query, span.sequence, span.first + i, head, d));
      }
    }
    query_offsets.push_back(static_cast<int32_t>(positions.size()));
    kv_lengths.push_back(span.first + span.rows);
    const auto& ids = problem.chunks.at(static_cast<size_t>(span.sequence));
    chunk_ids.insert(chunk_ids.end(), ids.begin(), ids.begin() + (kv_lengths.back() + problem.chunk - 1) / problem.chunk);
    chunk_offsets.push_back(static_cast<int32_t>(chunk_ids.size()));
  }
  tokens = static_cast<int32_t>(positions.size());
  capacity_ = {tokens, static_cast<int32_t>(spans.size()), 1, static_cast<int32_t>(chunk_ids.size()), 0, 0};
  const auto put = [&](const std::vector<int32_t>& values) {
    inputs_.push_back(std::make_unique<Array<int32_t>>(values));
    return inputs_.back()->data();
  };
  counts_ = std::make_unique<Array<StepCounts>>(std::vector<StepCounts>{{tokens, capacity_.sequences, 1}});
  in_.counts = counts_->data();
  in_.positions = put(positions);
  in_.row_sequences = put(row_sequences);
  in_.query_offsets = put(query_offsets);
  in_.kv_lengths = put(kv_lengths);
  in_.chunk_offsets = put(chunk_offsets);
  in_.chunk_ids = put(chunk_ids);
  q_ = std::make_unique<Array<uint16_t>>(q);
  out_ = std::make_unique<Array<uint16_t>>(q.size());
}

AttentionParameters Step::parameters() {
  AttentionParameters p{};
  p.q = q_->data();
  p.out = out_->data();
  p.activations = DType::bf16;
  p.kv = problem_.cache->view();
  p.in = in_;
  p.scale_log2 = problem_.scale() * 1.4426950408889634f;
  p.window = window;
  p.layer = kLayer;
  p.heads = problem_.heads.heads;
  p.kv_heads = problem_.heads.kv_heads;
  p.head_dim = problem_.heads.head_dim;
  p.chunk_shift = -1;
  for (int32_t shift = 0; shift < 20; ++shift) p.chunk_shift = (1 << shift) == problem_.chunk ? shift : p.chunk_shift;
  return p;
}

std::vector<uint16_t> Step::run(const Kernel& kernel) {
  device_.reserve(capacity_, problem_.heads);
  out_->poison();
  check_cuda(cudaDeviceSynchronize(), "memset", kSite);
  kernel(device_.context, parameters(), kSite);
  device_.sync();
  return out_->get();
}

double Step::median_seconds(int runs, int launches, const std::function<void(int)>& launch) {
  device_.reserve(capacity_, problem_.heads);
  cudaEvent_t begin = nullptr, end = nullptr;
  check_cuda(cudaEventCreate(&begin), "event", kSite);
  check_cuda(cudaEventCreate(&end), "event", kSite);
  std::vector<double> seconds;
  for (int run = -2; run < runs; ++run) {
    check_cuda(cudaEventRecord(begin, device_.context.stream), "event", kSite);
    for (int i = 0; i < launches; ++i) launch(i);
    check_cuda(cudaEventRecord(end, device_.context.stream), "event", kSite);
    device_.sync();
    float milliseconds = 0.0f;
    check_cuda(cudaEventElapsedTime(&milliseconds, begin, end), "event", kSite);
    if (run >= 0) seconds.push_back(static_cast<double>(milliseconds) * 1e-3 / launches);
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(seconds.begin(), seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2), seconds.end());
  return seconds[seconds.size() / 2];
}

double Step::time(const Kernel& kernel, int runs) {
  constexpr int kLaunches = 5;
  const AttentionParameters p = parameters();
  return median_seconds(runs, kLaunches, [&](int) { kernel(device_.context, p, kSite); });
}

double Step::time_layers(const Kernel& kernel, int runs) {
  AttentionParameters p = parameters();
  return median_seconds(runs, problem_.cache->spec().layers, [&](int layer) {
    p.layer = layer;
    kernel(device_.context, p, kSite);
  });
}

double Step::kv_bytes() const {
  double positions = 0.0;
  for (const Span& span : spans) positions += window > 0 ? std::min(span.first + span.rows, window) : span.first + span.rows;
  return positions * 2.0 * problem_.heads.kv_heads * problem_.heads.head_dim *
         static_cast<double>(dtype_size(problem_.cache->spec().dtype));
}

double Step::operations() const {
  double pairs = 0.0;
  for (const Span& span : spans) {
    if (span.rows < 2) continue;
    for (int32_t i = 0; i < span.rows; ++i) pairs += window > 0 ? std::min(span.first + i + 1, window) : span.first + i + 1;
  }
  return 4.0 * problem_.heads.head_dim * problem_.heads.heads * pairs;
}

}  // namespace bolide::attention_bench
