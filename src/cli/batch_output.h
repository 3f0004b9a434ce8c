// The files that a batch's records go to: appended to line by line, made durable about once a second, continued after a kill.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/clock.h"

namespace bolide {

// What ties a record to its run: which input, which settings, which seed.
struct RunIdentity {
  uint64_t input = 0;     // digest of the input's lines
  uint64_t settings = 0;  // digest of the model's files and of the flags that decide what comes out
  uint64_t seed = 0;      // of the whole run
  bool operator==(const RunIdentity&) const = default;
};

// What the output files of an earlier run hold.
struct FinishedLines {
  // `last_line`: number of the input's last line; records of later ones are left out, their run is not the input's.
  explicit FinishedLines(int64_t last_line) : lines(static_cast<size_t>(last_line) + 1) {}

  std::vector<bool> lines;  // by number
  int64_t count = 0, failed = 0;
  std::vector<int64_t> failed_lines;  // the first kMaxListedLines
  std::optional<RunIdentity> run;     // of the records; none when there is none

  bool contains(int64_t line) const { return lines.at(static_cast<size_t>(line)); }
};

class BatchOutput {
 public:
  // Opens the file (created when it is not there, "-" = standard output) without changing it. Throws UsageError when another batch
  // writes to it, Error with the system's reason.
  explicit BatchOutput(std::string path);
  ~BatchOutput();
  BatchOutput(const BatchOutput&) = delete;
  BatchOutput& operator=(const BatchOutput&) = delete;

  bool regular() const { return regular_; }
  int64_t size() const;

  // Adds the records that are there to `finished`. What follows the last whole one is torn; drop_torn() cuts it off. Throws UsageError
  // when a line before the end is no record of a batch, or of another run than those before it.
  void read_finished(FinishedLines& finished);
  int64_t torn_bytes() const { return torn_bytes_; }
  void drop_torn();
  void clear();  // empties a regular file

  // One line; it is in the file when this returns. Throws Error (disk full); a reader that has gone (a pipe) is no error.
  void append(std::string_view record);
  bool reader_gone() const { return reader_gone_; }
  // fsync where something was appended since the last one and `now` is a second later; at once when `now` is none.
  void sync(std::optional<Clock::time_point> now = std::nullopt);

 private:
  std::string path_;
  int fd_ = -1;
  bool regular_ = false, created_ = false, reader_gone_ = false, dirty_ = false;
  int64_t whole_ = 0, torn_bytes_ = 0;
  Clock::time_point synced_ = Clock::now();
};

// Whether both paths lead to the same file, through links or otherwise.
bool same_file(const std::string& a, const std::string& b);

}  // namespace bolide
