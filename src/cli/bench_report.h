// Rows of `bolide bench`: Markdown and CSV tables for people, JSON records that carry everything needed to repeat a figure.
#pragma once

#include <string>
#include <string_view>

#include "cli/bench_run.h"
#include "cli/model_facts.h"

namespace bolide {

struct BenchContext {
  std::string model;
  const EngineInfo& info;
  const ModelConfig& config;
  BenchSettings settings;
  int threads = 0;      // 0: not a CPU
  std::string started;  // ISO 8601, UTC
  std::string command_line;
};

class BenchReport {
 public:
  // `format`: md, csv, json or jsonl.
  explicit BenchReport(std::string_view format) : format_(format) {}
  // What to print for a finished case; json is one list, so its parts join up.
  std::string row(const BenchContext& context, const BenchResult& result);
  // What follows the last row.
  std::string end();

 private:
  // Collects what the table needs saying below it.
  void note(const BenchContext& context, const BenchResult& result);

  std::string format_;
  int rows_ = 0;
  std::string notes_;
};

// "2025-01-31T12:00:00Z"
std::string utc_now();

}  // namespace bolide
