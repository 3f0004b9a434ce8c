// The middle of `bolide batch`: lines go into the engine as it has room for them, records go to the files as their turn comes.
#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "cli/batch_job.h"
#include "cli/batch_lines.h"
#include "cli/batch_options.h"
#include "cli/batch_output.h"
#include "cli/batch_prompt.h"
#include "cli/batch_record.h"
#include "cli/batch_scan.h"
#include "cli/progress.h"
#include "cli/signals.h"
#include "engine/engine.h"

namespace bolide {

// What a run works with; all of it outlives the run.
struct BatchParts {
  const BatchOptions& options;
  Engine& engine;
  int32_t max_num_seqs;
  RequestReader& requests;
  PromptEncoder& prompts;
  const RecordWriter& records;
  const InputScan& scan;
  const FinishedLines& finished;  // lines of an earlier run
  BatchOutput& output;
  BatchOutput* errors;  // null: failed lines go to `output`, too
};

struct BatchTotals {
  int64_t ok = 0, failed = 0;         // records written in this run
  std::vector<int64_t> failed_lines;  // the first kMaxListedLines
  int64_t discarded = 0;              // finished, but an interruption came before their turn to be written
  int64_t output_tokens = 0;
  double seconds = 0;
};

// Memory is bounded: sequences in the engine, records that wait for an earlier line, and their bytes. When one of them is full, no
// further line is read.
class BatchRun {
 public:
  explicit BatchRun(const BatchParts& parts);

  // To the end of the input, or to a second after the first signal (then its exit code). Throws Error when a file cannot be written
  // or, with --fail-fast, when a line failed. What was written stays in the files in every case.
  std::optional<ExitCode> run();
  const BatchTotals& totals() const { return totals_; }

 private:
  // A line whose record has not been written yet.
  struct Slot {
    int64_t line;
    bool ready = false, failed = false;
    std::string record;
  };
  using SlotAt = std::list<Slot>::iterator;
  struct Running {
    std::unique_ptr<BatchJob> job;
    SlotAt slot;
  };

  bool has_room() const;
  bool admit_line();
  void start(BatchRequest request, SlotAt slot);
  bool step();
  void settle();
  void settle_job(const BatchJob& job, SlotAt slot);
  void fail(SlotAt slot, const std::string& record, const std::string& reason);
  void finish(SlotAt slot, std::string record, bool failed);
  void write(const Slot& slot);
  void write_ready();
  void cancel_all();
  void check_input() const;
  void check_output();

  BatchParts parts_;
  BatchLines lines_;
  std::string line_;       // kept for its capacity
  std::list<Slot> slots_;  // in the input's order
  std::unordered_map<const BatchJob*, Running> running_;
  std::vector<const BatchJob*> done_;
  size_t sequences_ = 0;    // of running_
  size_t ready_bytes_ = 0;  // of records in slots_
  BatchCounters counters_;
  BatchTotals totals_;
  ProgressLine progress_;
  bool input_ended_ = false, cancelling_ = false;
  std::optional<std::string> step_error_;
  int64_t ended_at_error_ = -1;
  std::optional<std::string> first_failure_;  // with --fail-fast
};

}  // namespace bolide
