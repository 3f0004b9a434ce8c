// A variable of the environment for as long as a test wants it.
#pragma once

#include <cstdlib>
#include <string>

namespace bolide::cuda_test {

// While it lives, the variable has the value; null: it is not set.
class SetVariable {
 public:
  SetVariable(const char* variable, const char* value) : variable_(variable) {
    if (const char* before = std::getenv(variable)) before_ = before, was_set_ = true;
    value ? setenv(variable, value, 1) : unsetenv(variable);
  }
  ~SetVariable() { was_set_ ? setenv(variable_, before_.c_str(), 1) : unsetenv(variable_); }
  SetVariable(const SetVariable&) = delete;
  SetVariable& operator=(const SetVariable&) = delete;

 private:
  const char* variable_;
  std::string before_;
  bool was_set_ = false;
};

}  // namespace bolide::cuda_test
