// Inside the CUDA backend: what every op's launcher gets besides its arguments. C++17 without backend/backend.h, so that .cu files
// include it. One file per op: embed.cu, norm_qkv.cu, attention.cu, project_add.cu, norm_gate_up.cu, logits.cu, sample.cu; and
// copy_chunks.cu, which is no op.
//
// A launcher enqueues its kernels on context.stream and returns; it never waits. Launch geometry follows context.capacity, never
// the step's lengths: kernels read those from StepInputs.counts and leave early, so that a step can be captured once and replayed.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "backend/ops.h"
#include "cuda/environment.h"

namespace bolide {

class CublasLt;
class DecodeSteps;

// Steps of at most this many rows take the memory-bound product kernel (gemv.cu), longer ones cuBLASLt.
constexpr int kFewRows = 8;
// Rows of every matrix (and of product operands) are padded with zeros to a multiple of this many elements.
constexpr int64_t kRowPad = 8;
constexpr int64_t padded_columns(int64_t columns) { return (columns + kRowPad - 1) / kRowPad * kRowPad; }

// A prepared matrix as kernels see it: row-major [rows, columns], row n at data + n * stride elements, 256-byte aligned,
// elements columns .. stride - 1 of each row are zero.
struct MatrixView {
  const void* data;
  DType dtype;
  int64_t rows, columns, stride;
};
MatrixView matrix_view(const Matrix& matrix);  // matrix.cpp

// K and V as kernels see them; kv_cache.h states the layout.
struct KvView {
  void* data;
  DType dtype;
  int32_t chunks, kv_heads, chunk_tokens, head_dim;
};
KvView kv_view(const KvCache& cache);  // kv_cache.cpp

// norm_qkv's product before heads are made of it (device/head.cuh), [T, stride] f32: H query heads, then Hkv key heads, then Hkv value
// heads of Dh columns each.
struct QkvProduct {
  const float* product = nullptr;
  int64_t stride = 0;
  const float* row_scale = nullptr;  // [T] or null: true value = product * row_scale
  const float* bias = nullptr;       // [Q + 2 KV] or null
  const float* q_norm = nullptr;     // [Dh] or null
  const float* k_norm = nullptr;     // [Dh] or null
  const float* rope = nullptr;       // [T, Dh / 2, 2]
  float eps = 0.0f;
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
};

// x[row] += the sum of `parts` + bias, not done yet: a product's parts lie in scratch, and the norm that reads x next adds them
// (device/pending_sum.cuh).
struct PendingSum {
  float* x = nullptr;            // [T, columns]
  const float* parts = nullptr;  // null: nothing is owed. [count][rows.capacity][stride]
  int32_t count = 0, columns = 0;
  int64_t stride = 0, part_stride = 0;
  const float* bias = nullptr;  // [columns] or null
};

// Faults that only the device can see. Kernels write the first one into host-mapped memory; Backend::sync and download throw it (fault.h).
struct DeviceFault {
  enum Code : int32_t { none, nan_logits, infinite_logits, nothing_to_draw, bad_token, bad_slot, stalled, decode_stalled };
  int32_t code;
  int32_t row;
  int32_t value;  // the offending id or slot; of stalled, block (row) and thread; of decode_stalled see decode::Patience::report
};

// Scratch memory of the ops, grown by reserve() only, so that its addresses hold as long as a captured step lives.
struct CudaScratch {
  void* operand = nullptr;  // [T or R, max K padded] left operands of products, at most 4 bytes an element
  size_t operand_bytes = 0;
  float* row_scale = nullptr;  // [T or R] powers of two that float16 operands were divided by
  float* product = nullptr;    // [T, max N] f32 products before their epilogue
  size_t product_bytes = 0;
  float* widened = nullptr;  // rows of a 16-bit matrix as f32, for float32 products
  size_t widened_bytes = 0;
  float* attention = nullptr;  // partial (m, l, o) of split attention, see attention_decode.cu
  size_t attention_bytes = 0;
  int32_t* arrivals = nullptr;  // zero between launches; the last are attention_counters()
  size_t arrivals_bytes = 0;
  void* wide = nullptr;  // e4m3 contexts as bfloat16, see kernels/attention_widen.cu
  size_t wide_bytes = 0;
  float* sampling = nullptr;  // [R, V] logits after penalties, bias and masks
  size_t sampling_bytes = 0;
  void* halves = nullptr;  // inputs of a step's halves, see halves.cu
  size_t halves_bytes = 0;
};

// What of a step is being enqueued. Kernels of a half leave room on the multiprocessors for those of the other one (halves.h).
enum class StepPart { whole, first_half, second_half };
struct CudaHalves {
  Halving wanted = Halving::none;
  cudaStream_t stream = nullptr;               // of the second half
  cudaEvent_t fork = nullptr, join = nullptr;  // where it begins and ends
};

struct CudaContext {
  int device = 0;
  int multiprocessors = 0;
  size_t l2_bytes = 0;
  int compute_capability = 0;     // 90 for 9.0
  bool dependent_launch = false;  // compute capability 9.0 and later, and code for it: programmatic dependent launch, clusters, bulk copies
  int copy_pace = 0;  // clocks between KBs of weights that each multiprocessor asks for ahead of time, see kernels/row_product.cu
  cudaStream_t stream = nullptr;
  CudaHalves halves;
  DType activations = DType::bf16;  // of q, attention output and MLP buffers; f32 keeps all arithmetic in float32
  StepCapacity capacity;            // of the step under way
  bool one_row_each = false;        // Step::one_row_each of the step under way
  StepPart part = StepPart::whole;  // of it
  CudaScratch scratch;
  DeviceFault* fault = nullptr;  // host-mapped
  CublasLt* cublas = nullptr;
  DecodeSteps* decode = nullptr;  // null: every step is run op by op
};

void cuda_copy_chunks(CudaContext& context, const KvView& kv, int32_t layers, const ChunkCopy* copies, size_t count);
void cuda_embed(CudaContext& context, const EmbedArgs& args);
// pending: what is owed to args.x, from a cuda_project_parts() in front.
void cuda_norm_qkv(CudaContext& context, const NormQkvArgs& args, const PendingSum& pending = {});
// The product alone, for a cuda_attention() of the same layer that takes it instead of norm_qkv's epilogue.
QkvProduct cuda_qkv_product(CudaContext& context, const NormQkvArgs& args);
bool attention_takes_product(const CudaContext& context, const AttentionArgs& args);
// Whether cuda_attention() of a step of one row each is kernels/attention_many.cu alone.
bool attention_is_of_many(const CudaContext& context, const AttentionArgs& args);
void cuda_attention(CudaContext& context, const AttentionArgs& args, const QkvProduct& fresh = {});
void cuda_project_add(CudaContext& context, const ProjectAddArgs& args);
// The products alone, for the op behind, whose norm adds them to x. Only where project_makes_parts() says so.
bool project_makes_parts(const CudaContext& context, const ProjectAddArgs& args);
PendingSum cuda_project_parts(CudaContext& context, const ProjectAddArgs& args);
void cuda_norm_gate_up(CudaContext& context, const NormGateUpArgs& args, const PendingSum& pending = {});
void cuda_logits(CudaContext& context, const LogitsArgs& args);
// drawn: null, or where a kernel in front has said (not 0) that the token of the one row stands already.
void cuda_sample(CudaContext& context, const SampleArgs& args, const int32_t* drawn = nullptr);

// Scratch that attention needs for a capacity (attention.cu).
struct AttentionScratch {
  size_t partial_bytes, arrival_bytes;
};
AttentionScratch attention_scratch(int multiprocessors, int32_t rows, int32_t heads, int32_t kv_heads, int32_t head_dim);
// Bytes of CudaScratch::wide, 0 where no contexts are widened (kernels/attention_widen.cu).
size_t attention_wide_scratch(const CudaContext& context, const StepCapacity& capacity, DType kv, int32_t kv_heads, int32_t head_dim);

}  // namespace bolide
