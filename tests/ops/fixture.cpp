#include "fixture.h"

#include <hwy/targets.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <numeric>

#include "catch.h"
#include "core/philox.h"
#include "exec/backend_choice.h"

namespace bolide::ops_test {
namespace {

// Printed when the program ends, after the last test.
struct Skipped {
  std::vector<std::string> names;
  ~Skipped() {
    if (names.empty()) return;
    std::printf("skipped for want of a CUDA device: %zu op tests\n", names.size());
    for (const std::string& name : names) std::printf("  skipped on cuda: %s\n", name.c_str());
  }
};

struct Backends {
  Backends() {
    for (const DeviceInfo& device : list_devices()) {
      BackendRequest request;
      request.device = device.id;
      list.push_back(choose_backend(request).backend);
      has_cuda = has_cuda || device.id.rfind("cuda", 0) == 0;
    }
  }
  std::vector<std::unique_ptr<Backend>> list;
  bool has_cuda = false;
};

}  // namespace

void for_each_backend(const std::string& name, const std::function<void(Backend&)>& body) {
  static Skipped skipped;
  static Backends backends;
  REQUIRE(!backends.list.empty());
  for (auto& backend : backends.list) {
    INFO("on " << backend->info().id);
    body(*backend);
  }
  if (!backends.has_cuda) skipped.names.push_back(name);
}

void for_each_backend_and_target(const std::string& name, const std::function<void(Backend&)>& body) {
  // Smaller bits are better targets.
  constexpr int64_t kAvx512AndBetter = 2 * HWY_AVX3 - 1, kAvx2AndBetter = 2 * HWY_AVX2 - 1;
  const auto use = [](int64_t targets) {
    hwy::SetSupportedTargetsForTest(targets);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  };
  const int64_t all = hwy::SupportedTargets();
  for_each_backend(name, [&](Backend& backend) {
    if (!is_cpu(backend)) return body(backend);
    for (int64_t left_out : {int64_t{0}, kAvx512AndBetter, kAvx2AndBetter}) {
      INFO("SIMD targets " << std::hex << (all & ~left_out));
      use((all & ~left_out) != 0 ? all & ~left_out : all);
      try {
        body(backend);
      } catch (...) {
        use(0);
        throw;
      }
      use(0);
    }
  });
}

bool is_cpu(const Backend& backend) { return backend.info().id == "cpu"; }

std::unique_ptr<Backend> cpu_with_threads(int threads) {
  BackendRequest request;
  request.device = "cpu";
  request.threads = threads;
  return choose_backend(request).backend;
}

float Random::uniform(float low, float high) { return low + (high - low) * uniform_open(philox4x32(seed_, counter_++, 0).v[0]); }

// Box and Muller's transform.
float Random::normal() {
  const Philox4 block = philox4x32(seed_, counter_++, 1);
  return std::sqrt(-2.0f * std::log(uniform_open(block.v[0]))) * std::cos(6.2831853f * uniform_open(block.v[1]));
}

int32_t Random::below(int32_t n) { return static_cast<int32_t>(philox4x32(seed_, counter_++, 2).v[0] % static_cast<uint32_t>(n)); }

std::vector<float> Random::normals(size_t count, float scale) {
  std::vector<float> values(count);
  for (float& v : values) v = scale * normal();
  return values;
}

std::vector<int32_t> Random::permutation(int32_t n) {
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  for (int32_t i = n - 1; i > 0; --i) std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(below(i + 1))]);
  return order;
}

float round_to(float value, DType dtype) {
  switch (dtype) {
    case DType::f32:
      return value;
    case DType::f16:
      return f16_to_f32(f32_to_f16(value));
    case DType::bf16:
      return bf16_to_f32(f32_to_bf16(value));
    case DType::f8:
      return f8_to_f32(f32_to_f8(value));
  }
  return value;
}

std::vector<float> round_to(std::vector<float> values, DType dtype) {
  for (float& v : values) v = round_to(v, dtype);
  return values;
}

std::vector<std::byte> pack(const std::vector<float>& values, DType dtype) {
  const size_t size = dtype_size(dtype);
  std::vector<std::byte> bytes(values.size() * size);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t half = dtype == DType::bf16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
    const uint8_t quarter = f32_to_f8(values[i]);
    const void* from = dtype == DType::f32 ? static_cast<const void*>(&values[i]) : &half;
    std::memcpy(bytes.data() + i * size, dtype == DType::f8 ? &quarter : from, size);
  }
  return bytes;
}

Activations::Activations(Backend& backend, size_t n)
    : dtype_(backend.activation_dtype()), size_(n), bytes_(backend, n * dtype_size(backend.activation_dtype())) {}

Activations::Activations(Backend& backend, const std::vector<float>& values) : Activations(backend, values.size()) {
  const std::vector<std::byte> packed = pack(values, dtype_);
  std::vector<unsigned char> bytes(packed.size());
  std::memcpy(bytes.data(), packed.data(), packed.size());
  bytes_.set(bytes);
}

std::vector<float> Activations::get() const {
  const std::vector<unsigned char> bytes = bytes_.get();
  std::vector<float> values(size_);
  for (size_t i = 0; i < size_; ++i) values[i] = load_element(bytes.data(), dtype_, i);
  return values;
}

TestMatrix::TestMatrix(Backend& backend, Random& random, int64_t matrix_rows, int64_t matrix_columns, DType dtype, int parts, float scale)
    : values(round_to(random.normals(static_cast<size_t>(matrix_rows * matrix_columns), scale), dtype)),
      rows(matrix_rows),
      columns(matrix_columns),
      bytes(pack(values, dtype)) {
  std::vector<TensorView> views;
  for (int p = 0; p < parts; ++p) {
    // Unequal parts: an even split, with the first part one row longer where there is one to spare.
    const int64_t begin = p == 0 ? 0 : std::min(rows, rows * p / parts + 1),
                  end = p + 1 == parts ? rows : std::min(rows, rows * (p + 1) / parts + 1);
    if (end > begin)
      views.push_back({bytes.data() + static_cast<size_t>(begin * columns) * dtype_size(dtype), dtype, {end - begin, columns}});
  }
  matrix = backend.prepare(views);
}

TestSequence ChunkSource::sequence(int32_t first_position, int32_t rows) {
  TestSequence sequence{first_position, rows, {}};
  for (int32_t covered = 0; covered < sequence.length(); covered += chunk_tokens_) {
    REQUIRE(!free_.empty());
    sequence.chunks.push_back(free_.back());
    free_.pop_back();
  }
  return sequence;
}

TestStep::TestStep(Backend& backend, const std::vector<TestSequence>& sequences, int32_t chunk_tokens,
                   const std::vector<int32_t>& token_ids, const std::vector<int32_t>& logit_rows,
                   const std::vector<TestSampling>& sampling) {
  std::vector<int32_t> query_offsets{0}, kv_lengths, chunk_offsets{0}, chunk_ids, seen_offsets{0}, bias_offsets{0};
  for (const TestSequence& s : sequences) {
    for (int32_t i = 0; i < s.rows; ++i) {
      const int32_t position = s.first_position + i;
      positions.push_back(position);
      row_sequences.push_back(static_cast<int32_t>(kv_lengths.size()));
      slots.push_back(s.chunks.at(static_cast<size_t>(position / chunk_tokens)) * chunk_tokens + position % chunk_tokens);
    }
    query_offsets.push_back(static_cast<int32_t>(positions.size()));
    kv_lengths.push_back(s.length());
    chunk_ids.insert(chunk_ids.end(), s.chunks.begin(), s.chunks.end());
    chunk_offsets.push_back(static_cast<int32_t>(chunk_ids.size()));
  }
  std::vector<SamplingSpec> specs;
  std::vector<SeenToken> seen;
  std::vector<LogitBias> biases;
  for (const TestSampling& row : sampling) {
    specs.push_back(row.spec);
    seen.insert(seen.end(), row.seen.begin(), row.seen.end());
    seen_offsets.push_back(static_cast<int32_t>(seen.size()));
    biases.insert(biases.end(), row.biases.begin(), row.biases.end());
    bias_offsets.push_back(static_cast<int32_t>(biases.size()));
  }
  tokens = static_cast<int32_t>(positions.size());
  const auto rows = static_cast<int32_t>(sampling.empty() ? logit_rows.size() : sampling.size());
  capacity = {tokens,
              static_cast<int32_t>(kv_lengths.size()),
              rows,
              static_cast<int32_t>(chunk_ids.size()),
              static_cast<int32_t>(seen.size()),
              static_cast<int32_t>(biases.size())};
  // Arrays have room for the step's capacity, which a test may state larger than the rows it has.
  constexpr size_t kSpare = 64;
  const auto put = [&](const auto& values) {
    using T = typename std::decay_t<decltype(values)>::value_type;
    memory_.push_back(backend.alloc((values.size() + kSpare) * sizeof(T)));
    if (!values.empty()) backend.upload(memory_.back()->data(), values.data(), values.size() * sizeof(T));
    return static_cast<T*>(memory_.back()->data());
  };
  inputs.counts = put(std::vector<StepCounts>{{tokens, capacity.sequences, rows}});
  inputs.token_ids = put(token_ids);
  inputs.positions = put(positions);
  inputs.row_sequences = put(row_sequences);
  inputs.slots = put(slots);
  inputs.query_offsets = put(query_offsets);
  inputs.kv_lengths = put(kv_lengths);
  inputs.chunk_offsets = put(chunk_offsets);
  inputs.chunk_ids = put(chunk_ids);
  inputs.logit_rows = put(logit_rows);
  inputs.sampling = put(specs);
  inputs.seen_offsets = put(seen_offsets);
  inputs.seen = put(seen);
  inputs.bias_offsets = put(bias_offsets);
  inputs.biases = put(biases);
}

constexpr size_t kWriterTokens = 64;  // also the width of the unit vectors

void KvWriter::write_products(int32_t layer, const std::vector<int32_t>& slots, const std::vector<std::byte>& weights,
                              const std::vector<float>& inputs) {
  const KvCacheSpec& spec = kv_.spec();
  const size_t rows = slots.size(), hidden = inputs.size() / rows;
  const TensorView view{weights.data(), weights_dtype(), {static_cast<int64_t>(3 * width()), static_cast<int64_t>(hidden)}};
  const auto matrix = backend_.prepare({&view, 1});
  // A sequence of one row per slot; only the count and the slots matter to this op.
  std::vector<TestSequence> sequences;
  for (int32_t slot : slots) sequences.push_back({slot % spec.chunk_tokens, 1, {slot / spec.chunk_tokens}});
  const TestStep step(backend_, sequences, spec.chunk_tokens);
  backend_.reserve(step.capacity, {static_cast<int32_t>(hidden), 16, spec.layers, spec.kv_heads, spec.kv_heads, spec.head_dim, 16});
  std::vector<float> turns(rows * static_cast<size_t>(spec.head_dim), 0.0f);
  for (size_t i = 0; i < turns.size(); i += 2) turns[i] = 1.0f;
  const float unit = 1.0f / std::sqrt(static_cast<float>(hidden));
  const DeviceArray<float> x(backend_, inputs), rope(backend_, turns), norm(backend_, std::vector<float>(hidden, unit));
  const Activations q(backend_, rows * width());
  backend_.norm_qkv({step.in(), x.data(), norm.data(), 0.0f, matrix.get(), nullptr, nullptr, nullptr, rope.data(), q.buffer(), &kv_, layer,
                     static_cast<int32_t>(hidden), spec.kv_heads, spec.kv_heads, spec.head_dim});
  backend_.sync();
}

void KvWriter::write(int32_t layer, const std::vector<int32_t>& slots, const std::vector<float>& k, const std::vector<float>& v) {
  const size_t w = width();
  REQUIRE(k.size() == slots.size() * w);
  REQUIRE(v.size() == slots.size() * w);
  for (size_t first = 0; first < slots.size(); first += kWriterTokens) {
    const size_t count = std::min(kWriterTokens, slots.size() - first);
    std::vector<float> weights(3 * w * kWriterTokens, 0.0f), units(count * kWriterTokens, 0.0f);
    for (size_t t = 0; t < count; ++t) {
      units[t * kWriterTokens + t] = 1.0f;
      for (size_t i = 0; i < w; ++i) {
        weights[(w + i) * kWriterTokens + t] = k[(first + t) * w + i];
        weights[(2 * w + i) * kWriterTokens + t] = v[(first + t) * w + i];
      }
    }
    const auto begin = slots.begin() + static_cast<std::ptrdiff_t>(first);
    write_products(layer, {begin, begin + static_cast<std::ptrdiff_t>(count)}, pack(weights, weights_dtype()), units);
  }
}

void KvWriter::poison() {
  const KvCacheSpec& spec = kv_.spec();
  constexpr size_t kHidden = 16;  // any will do
  const std::vector<float> nan(3 * width() * kHidden, std::numeric_limits<float>::quiet_NaN());
  const std::vector<std::byte> weights = pack(nan, weights_dtype());
  const int32_t slots = spec.chunks * spec.chunk_tokens, step = static_cast<int32_t>(kWriterTokens);
  for (int32_t layer = 0; layer < spec.layers; ++layer) {
    for (int32_t first = 0; first < slots; first += step) {
      std::vector<int32_t> some(static_cast<size_t>(std::min(step, slots - first)));
      std::iota(some.begin(), some.end(), first);
      write_products(layer, some, weights, std::vector<float>(some.size() * kHidden, 1.0f));
    }
  }
}

KvContent random_kv(Random& random, const std::vector<TestSequence>& sequences, int32_t kv_heads, int32_t head_dim, DType dtype,
                    float scale) {
  KvContent content;
  for (const TestSequence& s : sequences) {
    const size_t n = static_cast<size_t>(s.length()) * static_cast<size_t>(kv_heads) * static_cast<size_t>(head_dim);
    content.k.push_back(round_to(random.normals(n, scale), dtype));
    content.v.push_back(round_to(random.normals(n), dtype));
  }
  return content;
}

void write_kv(Backend& backend, KvCache& kv, int32_t layer, const std::vector<TestSequence>& sequences, const KvContent& content) {
  const KvCacheSpec& spec = kv.spec();
  KvWriter writer(backend, kv);
  writer.poison();
  for (size_t s = 0; s < sequences.size(); ++s) {
    std::vector<int32_t> slots;
    for (int32_t p = 0; p < sequences[s].length(); ++p) {
      slots.push_back(sequences[s].chunks[static_cast<size_t>(p / spec.chunk_tokens)] * spec.chunk_tokens + p % spec.chunk_tokens);
    }
    writer.write(layer, slots, content.k[s], content.v[s]);
  }
}

}  // namespace bolide::ops_test
