// Inside the CPU backend: what its ops share. One file per op: embed.cpp, norm_qkv.cpp, attention.cpp, project_add.cpp,
// norm_gate_up.cpp, logits.cpp, sample.cpp.
#pragma once

#include <memory>
#include <vector>

#include "backend/backend.h"
#include "core/thread_pool.h"

namespace bolide {

// Rows of one or more mapped checkpoint tensors, read in place.
class CpuMatrix final : public Matrix {
 public:
  struct Part {
    const void* data;   // [rows, columns] row-major, dtype of the matrix
    int64_t first_row;  // in the stacked matrix
    int64_t rows;
  };
  explicit CpuMatrix(std::span<const TensorView> stacked_rows);

  int64_t rows() const override { return rows_; }
  int64_t columns() const override { return columns_; }
  size_t bytes() const override { return static_cast<size_t>(rows_ * columns_) * dtype_size(dtype_); }
  DType dtype() const { return dtype_; }
  const std::vector<Part>& parts() const { return parts_; }
  // Address of a row; rows of one part are consecutive.
  const void* row(int64_t index) const;

 private:
  std::vector<Part> parts_;
  int64_t rows_ = 0, columns_ = 0;
  DType dtype_ = DType::f32;
};

// Layout [layer][chunk][kv head][K, V][C][Dh], so that one head's K (and V) of a chunk is contiguous.
class CpuKvCache final : public KvCache {
 public:
  explicit CpuKvCache(const KvCacheSpec& spec);
  ~CpuKvCache() override;
  const KvCacheSpec& spec() const override { return spec_; }
  // [C, Dh] of spec().dtype
  void* k(int32_t layer, int32_t chunk, int32_t kv_head) const;
  void* v(int32_t layer, int32_t chunk, int32_t kv_head) const;
  void copy(const ChunkCopy& copy);

 private:
  KvCacheSpec spec_;
  std::byte* data_ = nullptr;  // mapped lazily: a chunk takes memory when it is first written
  size_t bytes_ = 0;
};

// What every op gets besides its arguments.
struct CpuContext {
  ThreadPool& pool;
  StepCapacity capacity;  // of the last reserve()
  ModelDims dims;
  bool bf16_products = false;  // CpuOptions::bf16_products
  // The matrix that the next product will stream, where that is known: a worker's last prefetches in a product are for its share of the
  // next.
  struct Upcoming {
    const CpuMatrix* matrix = nullptr;
    int parts = 1;
  } upcoming{};
  uint64_t products_run = 0;  // numbers the products, so that a worker can tell a new one
  // Scratch owned by the backend, 64-byte aligned, grown in reserve() only.
  struct Scratch {
    std::unique_ptr<std::byte[], void (*)(void*)> data{nullptr, [](void*) {}};
    size_t bytes = 0;
  };
  Scratch products;   // packed activations and tiles of norm_qkv, project_add, norm_gate_up, logits
  Scratch attention;  // scores and partial outputs per worker
  Scratch sampling;   // candidates per worker
};

void cpu_embed(CpuContext& context, const EmbedArgs& args);
void cpu_norm_qkv(CpuContext& context, const NormQkvArgs& args);
void cpu_attention(CpuContext& context, const AttentionArgs& args);
void cpu_project_add(CpuContext& context, const ProjectAddArgs& args);
void cpu_norm_gate_up(CpuContext& context, const NormGateUpArgs& args);
void cpu_logits(CpuContext& context, const LogitsArgs& args);
void cpu_sample(CpuContext& context, const SampleArgs& args);

// Scratch bytes each group of ops needs for this capacity; called by CpuBackend::reserve.
size_t cpu_products_scratch(const StepCapacity& capacity, const ModelDims& dims, int threads);
size_t cpu_attention_scratch(const StepCapacity& capacity, const ModelDims& dims, int threads);
size_t cpu_sampling_scratch(const StepCapacity& capacity, const ModelDims& dims, int threads);

}  // namespace bolide
