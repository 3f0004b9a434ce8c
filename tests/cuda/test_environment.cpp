// The CUDA backend's switches in the environment. No GPU needed.
#include <cstdlib>
#include <string>

#include "catch.h"
#include "core/error.h"
#include "cuda/environment.h"

using namespace bolide;

namespace {

// While it lives, the variable has the value; null: it is not set.
class Set {
 public:
  Set(const char* variable, const char* value) : variable_(variable) {
    if (const char* before = std::getenv(variable)) before_ = before, was_set_ = true;
    value ? setenv(variable, value, 1) : unsetenv(variable);
  }
  ~Set() { was_set_ ? setenv(variable_, before_.c_str(), 1) : unsetenv(variable_); }
  Set(const Set&) = delete;
  Set& operator=(const Set&) = delete;

 private:
  const char* variable_;
  std::string before_;
  bool was_set_ = false;
};

template <class Read>
void check_refused(const char* variable, const char* value, Read&& read) {
  const Set set(variable, value);
  std::string text;
  try {
    read();
  } catch (const UsageError& error) {
    text = error.what();
  }
  CAPTURE(variable, value);
  CHECK(text.find(std::string(variable) + " is '" + value + "'") == 0);
  CHECK(text.find("unset it") != std::string::npos);
}

}  // namespace

TEST_CASE("environment: how many decode steps a launch may run") {
  const auto with = [](const char* value) {
    const Set set("BOLIDE_DECODE_STEPS", value);
    return decode_steps_of_launch();
  };
  CHECK(with(nullptr) == 1024);
  CHECK(with("1") == 1);
  CHECK(with("7") == 7);
  CHECK(with("1048576") == 1048576);
  for (const char* value : {"", "0", "-1", "+1", "1048577", "99999999999", "seven", "7 ", " 7", "7.0", "0x10"})
    check_refused("BOLIDE_DECODE_STEPS", value, decode_steps_of_launch);
}

TEST_CASE("environment: the decode kernel on or off") {
  const auto with = [](const char* value) {
    const Set set("BOLIDE_DECODE_KERNEL", value);
    return decode_kernel_wanted();
  };
  CHECK(with(nullptr));
  CHECK(with("1"));
  CHECK_FALSE(with("0"));
  for (const char* value : {"", "off", "00", "no", "2"}) check_refused("BOLIDE_DECODE_KERNEL", value, decode_kernel_wanted);
}
