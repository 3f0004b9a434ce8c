// The requests of `bolide bench throughput`: how many, how long, when.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bolide {

// Both ends included.
struct IntRange {
  int32_t low = 0, high = 0;
};

struct WorkloadShape {
  int32_t num_prompts = 100;
  uint64_t seed = 0;
  IntRange input{256, 256}, output{128, 128};  // tokens
  IntRange ids{0, -1};                         // of the prompts' tokens; high < low: the whole vocabulary
  float temperature = 0;
  double request_rate = 0;  // requests per second, at random moments (a Poisson process); 0 = all at once
};

// A JSON object with any of num_prompts, seed, input_len, output_len, token_ids (an integer, or [least, most]), temperature. Throws
// UsageError naming the file and the field.
WorkloadShape read_workload(const std::string& path);

// `length` spread by a share of it, as vLLM's --random-range-ratio has it: from length * (1 - ratio) to length * (1 + ratio).
IntRange spread_length(int32_t length, double ratio);

struct WorkloadRequest {
  std::vector<int32_t> prompt;
  int32_t output = 0;  // tokens; end-of-text is ignored
  double arrival = 0;  // seconds after the start
};

// Drawn by Python's random numbers in the order of nano-vllm's bench.py: of each prompt its length and its ids, then all output lengths.
// So its workload comes out as published, token by token. Throws UsageError where ids lie outside the vocabulary.
std::vector<WorkloadRequest> make_workload(const WorkloadShape& shape, int32_t vocab);

// The fewest steps that output can take with `side_by_side` sequences at a time, first come, first served: a token of each in every step.
int64_t fewest_steps(const std::vector<WorkloadRequest>& requests, int32_t side_by_side);

}  // namespace bolide
