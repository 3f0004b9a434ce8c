#include "exec/batch.h"

#include "core/error.h"

namespace bolide {

void Batch::clear() {
  for (auto* list : {&token_ids, &positions, &row_sequences, &slots, &kv_lengths, &chunk_ids, &logit_rows}) list->clear();
  for (auto* offsets : {&query_offsets, &chunk_offsets, &seen_offsets, &bias_offsets}) offsets->assign(1, 0);
  sampling.clear();
  seen.clear();
  biases.clear();
  copies.clear();
}

int32_t Batch::add_sequence(std::span<const int32_t> tokens, int32_t first_position, std::span<const int32_t> chunks,
                            int32_t chunk_tokens) {
  BOLIDE_CHECK(!tokens.empty() && first_position >= 0 && chunk_tokens > 0);
  const int64_t length = static_cast<int64_t>(first_position) + static_cast<int64_t>(tokens.size());
  BOLIDE_CHECK(static_cast<int64_t>(chunks.size()) * chunk_tokens >= length);
  const int32_t first_row = this->tokens();
  const int32_t sequence = sequences();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int32_t position = first_position + static_cast<int32_t>(i);
    token_ids.push_back(tokens[i]);
    positions.push_back(position);
    row_sequences.push_back(sequence);
    slots.push_back(chunks[static_cast<size_t>(position / chunk_tokens)] * chunk_tokens + position % chunk_tokens);
  }
  query_offsets.push_back(this->tokens());
  kv_lengths.push_back(static_cast<int32_t>(length));
  const auto used = static_cast<std::ptrdiff_t>((length + chunk_tokens - 1) / chunk_tokens);
  chunk_ids.insert(chunk_ids.end(), chunks.begin(), chunks.begin() + used);
  chunk_offsets.push_back(static_cast<int32_t>(chunk_ids.size()));
  return first_row;
}

void Batch::add_logits(int32_t row, const SamplingSpec& spec, std::span<const SeenToken> seen_tokens,
                       std::span<const LogitBias> logit_biases) {
  BOLIDE_CHECK(row >= 0 && row < tokens());
  logit_rows.push_back(row);
  sampling.push_back(spec);
  seen.insert(seen.end(), seen_tokens.begin(), seen_tokens.end());
  seen_offsets.push_back(static_cast<int32_t>(seen.size()));
  biases.insert(biases.end(), logit_biases.begin(), logit_biases.end());
  bias_offsets.push_back(static_cast<int32_t>(biases.size()));
}

}  // namespace bolide
