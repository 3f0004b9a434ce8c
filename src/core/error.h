// Errors as users meet them: one line that says what is wrong, where, and what to do, with the exit code it ends in.
#pragma once

#include <stdexcept>
#include <string>

#include <fmt/format.h>

namespace bolide {

// Exit codes are a contract with scripts; additions only.
enum class ExitCode : int {
  ok = 0,
  failed = 1,          // failed while running
  usage = 2,           // wrong flags or arguments
  batch_partial = 3,   // a batch finished, some of its lines failed
  model = 4,           // model missing, corrupt or unsupported
  memory = 5,          // does not fit in memory
  interrupted = 130,   // SIGINT
  terminated = 143,    // SIGTERM
};

// Base of everything bolide throws on purpose. Caught once, in main.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& text, ExitCode code = ExitCode::failed) : std::runtime_error(text), code_(code) {}
  ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

struct UsageError : Error {
  explicit UsageError(const std::string& text) : Error(text, ExitCode::usage) {}
};
struct ModelError : Error {
  explicit ModelError(const std::string& text) : Error(text, ExitCode::model) {}
};
struct MemoryError : Error {
  explicit MemoryError(const std::string& text) : Error(text, ExitCode::memory) {}
};

// A broken promise between rooms (never bad input): throws with the place, in every build type.
[[noreturn]] void internal_error(const char* file, int line, const char* condition);

}  // namespace bolide

#define BOLIDE_CHECK(condition) \
  do { \
    if (!(condition)) ::bolide::internal_error(__FILE__, __LINE__, #condition); \
  } while (false)
