// One step's work as flat arrays on the host: what the scheduler hands to the executor. Fields mirror StepInputs (backend/ops.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/ops.h"

namespace bolide {

struct Batch {
  std::vector<int32_t> token_ids;       // [T]
  std::vector<int32_t> positions;       // [T]
  std::vector<int32_t> row_sequences;   // [T]
  std::vector<int32_t> slots;           // [T]
  std::vector<int32_t> query_offsets{0};  // [S + 1]
  std::vector<int32_t> kv_lengths;      // [S]
  std::vector<int32_t> chunk_offsets{0};  // [S + 1]
  std::vector<int32_t> chunk_ids;
  std::vector<int32_t> logit_rows;      // [R]
  std::vector<SamplingSpec> sampling;   // [R]
  std::vector<int32_t> seen_offsets{0};   // [R + 1]
  std::vector<SeenToken> seen;
  std::vector<int32_t> bias_offsets{0};   // [R + 1]
  std::vector<LogitBias> biases;
  std::vector<ChunkCopy> copies;        // before all else; no chunk is written by one and named by another

  int32_t tokens() const { return static_cast<int32_t>(token_ids.size()); }
  int32_t sequences() const { return static_cast<int32_t>(kv_lengths.size()); }
  int32_t logit_row_count() const { return static_cast<int32_t>(logit_rows.size()); }
  void clear();

  // Appends a sequence: `tokens` at positions first_position.. of a sequence whose chunks are `chunks` (C = chunk_tokens).
  // Its rows become addressable for add_logits as first_row() of the return value + i.
  int32_t add_sequence(std::span<const int32_t> tokens, int32_t first_position, std::span<const int32_t> chunks, int32_t chunk_tokens);
  // Asks for logits of `row` with this spec, penalty history and biases.
  void add_logits(int32_t row, const SamplingSpec& spec, std::span<const SeenToken> seen, std::span<const LogitBias> biases);
};

}  // namespace bolide
