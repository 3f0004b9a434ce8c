#include "cli/batch_run.h"

#include <ctime>
#include <utility>

#include "core/messages.h"

namespace bolide {
namespace {

constexpr double kGraceSeconds = 1.0;
constexpr size_t kMaxReadyBytes = size_t{64} << 20;
constexpr size_t kSlotsPerSequence = 16;
constexpr int kLinesAtOnce = 1000;

}  // namespace

BatchRun::BatchRun(const BatchParts& parts)
    : parts_(parts),
      lines_(parts.options.input, kMaxBatchLine),
      progress_(!parts.options.defaults.console.quiet && !parts.options.defaults.console.no_progress, parts.scan.requests,
                parts.finished.count) {}

std::optional<ExitCode> BatchRun::run() {
  const GracefulStop stop;
  const auto begin = Clock::now();
  std::optional<Clock::time_point> stopped;
  bool more_lines = true, busy = true;
  while (busy || more_lines || !slots_.empty()) {
    const bool stopping = stopped || first_failure_ || parts_.output.reader_gone();
    // Not without end: finished and bad lines take no room, and a signal or the sequences under way should not wait for them.
    for (int i = 0; i < kLinesAtOnce && !stopping && more_lines && has_room(); ++i) more_lines = admit_line();
    if (stopping) more_lines = false;
    busy = step();
    settle();
    check_output();
    const auto now = Clock::now();
    progress_.update(parts_.finished.count + totals_.ok + totals_.failed, parts_.finished.failed + totals_.failed, counters_.tokens);
    if (!stopped && stop.requested()) stopped = now;
    if (parts_.output.reader_gone() || first_failure_ || (stopped && seconds_between(*stopped, now) >= kGraceSeconds)) cancel_all();
    if (!busy && cancelling_) break;  // what is left in the slots waits for lines that will not come
  }
  progress_.clear();
  for (const Slot& slot : slots_) totals_.discarded += slot.ready ? 1 : 0;
  totals_.output_tokens = counters_.tokens;
  totals_.seconds = seconds_between(begin, Clock::now());
  parts_.output.sync();
  if (parts_.errors) parts_.errors->sync();
  if (first_failure_) throw Error(*first_failure_);
  if (parts_.output.reader_gone()) return stop.requested();
  if (input_ended_) check_input();
  return input_ended_ && slots_.empty() ? std::nullopt : stop.requested();
}

bool BatchRun::has_room() const {
  const auto wanted = static_cast<size_t>(parts_.max_num_seqs);
  // A few more than run together, so that the engine has the next ones at hand.
  return sequences_ < wanted + wanted / 4 + 1 && slots_.size() < kSlotsPerSequence * wanted && ready_bytes_ < kMaxReadyBytes;
}

// Reads a line and starts it unless it is finished. False at the end of the input.
bool BatchRun::admit_line() {
  input_ended_ = !lines_.next(line_) || lines_.number() > parts_.scan.lines;
  if (input_ended_) return false;
  if (parts_.finished.contains(lines_.number())) return true;
  const SlotAt slot = slots_.insert(slots_.end(), Slot{lines_.number(), false, false, ""});
  try {
    start(read_request(lines_, line_, parts_.requests), slot);
  } catch (const LineError& error) {
    fail(slot, parts_.records.line_error(slot->line, error.custom_id, error.what()), error.what());
  } catch (const RequestError& error) {
    fail(slot, parts_.records.request_error(slot->line, error.custom_id, 400, error.field, error.what()), error.what());
  }
  return true;
}

void BatchRun::start(BatchRequest request, SlotAt slot) {
  std::vector<std::vector<int32_t>> prompts;
  try {
    prompts = parts_.prompts.encode(request);
  } catch (const FieldError& error) {
    throw RequestError(request.custom_id, error.field, error.what());
  } catch (const Error& error) {
    throw RequestError(request.custom_id, request.chat ? "messages" : "prompt", error.what());
  }
  auto job = std::make_unique<BatchJob>(std::move(request), counters_, [this](const BatchJob& ended) { done_.push_back(&ended); });
  BatchJob& started = *job;
  if (!started.start(parts_.engine, std::move(prompts))) return settle_job(started, slot);
  sequences_ += started.sequences();
  running_.emplace(&started, Running{std::move(job), slot});
}

// One step of the engine. An error that belongs to one sequence ends that sequence; one that comes again without any sequence having
// ended in between is the engine's own.
bool BatchRun::step() {
  try {
    return parts_.engine.step();
  } catch (const Error& error) {
    if (ended_at_error_ == counters_.ended) throw;
    ended_at_error_ = counters_.ended;
    step_error_ = error.what();
    return true;
  }
}

void BatchRun::settle() {
  for (const BatchJob* job : std::exchange(done_, {})) {
    const auto at = running_.find(job);
    const Running ended = std::move(at->second);
    running_.erase(at);
    sequences_ -= ended.job->sequences();
    if (ended.job->cancelled() && !ended.job->refusal() && cancelling_) continue;  // its slot stays empty
    settle_job(*ended.job, ended.slot);
  }
  write_ready();
}

void BatchRun::settle_job(const BatchJob& job, SlotAt slot) {
  const BatchRequest& request = job.request();
  if (job.refusal()) {
    const FieldText text = field_text(*job.refusal());
    const std::string field = !text.field.empty() ? text.field : request.chat ? "messages" : "prompt";
    fail(slot, parts_.records.request_error(slot->line, request.custom_id, 400, field, text.text), text.text);
  } else if (job.cancelled()) {
    const std::string reason = step_error_.value_or("the engine gave it up");
    fail(slot, parts_.records.request_error(slot->line, request.custom_id, 500, "", reason), reason);
  } else {
    finish(slot, parts_.records.answer(job, std::time(nullptr)), false);
  }
}

void BatchRun::fail(SlotAt slot, const std::string& record, const std::string& reason) {
  if (parts_.options.fail_fast && !first_failure_)
    first_failure_ = fmt::format("{} line {}: {}. --fail-fast stops here", in_quotes(parts_.options.input), slot->line, reason);
  finish(slot, record, true);
}

void BatchRun::finish(SlotAt slot, std::string record, bool failed) {
  slot->ready = true;
  slot->failed = failed;
  slot->record = std::move(record);
  ready_bytes_ += slot->record.size();
  if (!parts_.options.unordered) return;
  write(*slot);
  slots_.erase(slot);
}

void BatchRun::write(const Slot& slot) {
  ready_bytes_ -= slot.record.size();
  BatchOutput& to = slot.failed && parts_.errors ? *parts_.errors : parts_.output;
  to.append(slot.record);
  if (to.reader_gone()) return;
  if (!slot.failed) {
    ++totals_.ok;
    return;
  }
  ++totals_.failed;
  if (totals_.failed_lines.size() < kMaxListedLines) totals_.failed_lines.push_back(slot.line);
}

// In the input's order, up to the first line that is still on its way.
void BatchRun::write_ready() {
  while (!slots_.empty() && slots_.front().ready) {
    write(slots_.front());
    slots_.pop_front();
  }
}

void BatchRun::cancel_all() {
  if (std::exchange(cancelling_, true)) return;
  for (const auto& [job, running] : running_) job->cancel(parts_.engine);
}

void BatchRun::check_output() {
  const auto now = Clock::now();
  parts_.output.sync(now);
  if (parts_.errors) parts_.errors->sync(now);
}

void BatchRun::check_input() const {
  if (lines_.digest() == parts_.scan.digest && lines_.number() == parts_.scan.lines) return;
  throw Error(
      fmt::format("{} has changed while the batch was running: its records may not belong to its lines any more. Run the batch "
                  "again with --overwrite",
                  in_quotes(parts_.options.input)));
}

}  // namespace bolide
