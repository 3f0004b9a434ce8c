// What an action that should fail throws.
#pragma once

#include <string>
#include <utility>

#include "core/error.h"

namespace bolide::test {

// The text and exit code of the Error that `action` throws.
template <typename Action>
std::pair<std::string, ExitCode> error_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    return {error.what(), error.code()};
  }
  return {"no error", ExitCode::ok};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace bolide::test
