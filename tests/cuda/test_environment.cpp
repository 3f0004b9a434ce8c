// The CUDA backend's switches in the environment. No GPU needed.
#include <string>

#include "catch.h"
#include "core/error.h"
#include "cuda/environment.h"
#include "set_variable.h"

using namespace bolide;
using cuda_test::SetVariable;

namespace {

template <class Read>
void check_refused(const char* variable, const char* value, Read&& read) {
  const SetVariable set(variable, value);
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
    const SetVariable set("BOLIDE_DECODE_STEPS", value);
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
    const SetVariable set("BOLIDE_DECODE_KERNEL", value);
    return decode_kernel_wanted();
  };
  CHECK(with(nullptr));
  CHECK(with("1"));
  CHECK_FALSE(with("0"));
  for (const char* value : {"", "off", "00", "no", "2"}) check_refused("BOLIDE_DECODE_KERNEL", value, decode_kernel_wanted);
}

TEST_CASE("environment: which steps run in halves") {
  const auto with = [](const char* value) {
    const SetVariable set("BOLIDE_HALVES", value);
    return halving_wanted();
  };
  CHECK(with(nullptr) == Halving::those_that_gain);
  CHECK(with("0") == Halving::none);
  CHECK(with("1") == Halving::all_that_can);
  for (const char* value : {"", "auto", "00", "yes", "2"}) check_refused("BOLIDE_HALVES", value, halving_wanted);
}
