// What a call throws, for tests of messages and exit codes.
#pragma once

#include <string>

#include "core/error.h"

namespace bolide {

struct Caught {
  std::string text;  // empty: nothing was thrown
  ExitCode code = ExitCode::ok;

  bool says(const std::string& part) const { return text.find(part) != std::string::npos; }
};

template <typename Call>
Caught caught(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return {error.what(), error.code()};
  }
  return {};
}

}  // namespace bolide
