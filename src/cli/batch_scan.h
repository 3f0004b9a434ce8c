// The first pass over a batch's input: which lines are no requests, whether custom_ids repeat, and the digest that says later on
// whether the file is still the same. Takes the same memory for any number of lines.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/batch_request.h"

namespace bolide {

constexpr size_t kMaxBatchLine = size_t{32} << 20;  // bytes
constexpr size_t kMaxListedLines = 20;

struct BadLine {
  int64_t line;
  std::string reason;
};
struct RepeatedId {
  int64_t line, first_line;
  std::string custom_id;
};

struct InputScan {
  int64_t lines = 0;     // number of the last one
  int64_t requests = 0;  // lines that are not blank, bad ones included
  int64_t chats = 0;     // of them, conversations
  int64_t bad = 0, repeated = 0;
  std::vector<BadLine> bad_lines;        // the first kMaxListedLines of them
  std::vector<RepeatedId> repeated_ids;  // idem
  bool repeats_complete = true;          // false: there may be more repeated custom_ids than could be looked into
  uint64_t digest = 0;
};

// How the file's first line that is not blank begins: with a brace, or otherwise.
LineFormat guess_format(const std::string& path);

// The line's request. Throws LineError or RequestError, also for lines that are too long.
class BatchLines;
BatchRequest read_request(const BatchLines& lines, const std::string& line, RequestReader& reader);

InputScan scan_input(const std::string& path, RequestReader& reader);

}  // namespace bolide
