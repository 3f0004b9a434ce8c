// The standard streams: what may be written to them, and reading input whose size nobody vouches for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace bolide {

// Points closed standard descriptors at /dev/null, so that no file opened later takes their numbers. Returns whether standard
// output was open.
bool secure_standard_streams();

// Colours on descriptor `fd`: `when` is auto, always or never; auto asks for a terminal, an empty NO_COLOR and TERM other than dumb.
bool use_color(std::string_view when, int fd);

// Standard output, which carries results and nothing else. Bytes are kept until flush() or until a block is full.
// A reader that has gone (EPIPE, as under `| head -1`) is not an error: further bytes are dropped and reader_gone() tells.
class ResultStream {
 public:
  ~ResultStream() { flush(); }
  void write(std::string_view bytes);
  void flush();
  bool reader_gone() const;
  // Nothing more can be written, for whatever reason.
  bool failed() const { return error_ != 0; }
  // Flushes; throws Error with the system's reason when something could not be written (a reader that has gone excepted).
  void finish();

 private:
  std::string buffer_;
  int error_ = 0;
};

constexpr size_t kMaxInputBytes = size_t{256} << 20;

// Bytes of a file, or of standard input for "-", as they are. Throws Error naming the file: unreadable, a folder, or larger than
// kMaxInputBytes.
std::string read_input(const std::string& path);

// Lines of a file, or of standard input for "-", without their line feed. A line may hold kMaxInputBytes at most.
class LineReader {
 public:
  explicit LineReader(const std::string& path);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  bool next(std::string& line);
  int64_t number() const { return number_; }  // of the last line, from 1
  // Whether the next call would wait for more input (or for its end): the moment to flush results.
  bool drained() const { return begin_ == block_.size(); }

 private:
  bool fill();
  std::string path_;
  int fd_;
  std::string block_;
  size_t begin_ = 0;
  bool ended_ = false;
  int64_t number_ = 0;
};

}  // namespace bolide
