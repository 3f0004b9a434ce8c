// Lines of a file of any length, with memory that does not depend on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/digest.h"

namespace bolide {

class BatchLines {
 public:
  // Lines longer than `longest` bytes are skipped over and reported. Throws Error when the file cannot be read, UsageError when it is
  // no regular file (it must be readable twice).
  BatchLines(const std::string& path, size_t longest);
  ~BatchLines();
  BatchLines(const BatchLines&) = delete;
  BatchLines& operator=(const BatchLines&) = delete;

  // The next line that is not blank, without its line feed (and carriage return); false at the end.
  bool next(std::string& line);
  int64_t number() const { return number_; }           // of that line, from 1, blank ones counted
  bool too_long() const { return too_long_; }          // that line was longer than allowed; `line` is empty
  bool terminated() const { return terminated_; }      // it ended in a line feed, not with the file
  int64_t begin() const { return begin_; }             // offset of its first byte
  int64_t end() const { return end_; }                 // offset of the byte after it and its line feed
  uint64_t digest() const { return digest_.value(); }  // of all lines so far

 private:
  bool fill();
  bool read_line(std::string& line);

  std::string path_;
  size_t longest_;
  int fd_;
  std::string block_;
  size_t at_ = 0;  // in block_
  int64_t number_ = 0, begin_ = 0, end_ = 0;
  bool too_long_ = false, terminated_ = false;
  Digest digest_;
};

}  // namespace bolide
