#include "catch.h"
#include "cuda/architectures.h"

using bolide::Architectures;

TEST_CASE("machine code runs on later devices of its major version") {
  const Architectures build("80-real");
  CHECK(build.runs_on(8, 0));
  CHECK(build.runs_on(8, 9));
  CHECK_FALSE(build.runs_on(7, 5));
  CHECK_FALSE(build.runs_on(9, 0));
}

TEST_CASE("architecture-specific code runs on its device alone") {
  const Architectures build("90a-real");
  CHECK(build.runs_on(9, 0));
  CHECK_FALSE(build.runs_on(10, 0));
  CHECK_FALSE(Architectures("90a").runs_on(10, 0));
}

TEST_CASE("PTX runs on any later device") {
  CHECK(Architectures("80").runs_on(12, 0));
  CHECK(Architectures("80-virtual").runs_on(9, 0));
  CHECK_FALSE(Architectures("80-virtual").runs_on(7, 5));
}

TEST_CASE("a list runs wherever one of its entries does") {
  const Architectures build("80-real,90a-real");
  CHECK(build.runs_on(8, 6));
  CHECK(build.runs_on(9, 0));
  CHECK_FALSE(build.runs_on(10, 0));
  CHECK(build.text() == "sm_80, sm_90a");
}

TEST_CASE("words of CMake are taken at their word") {
  CHECK(Architectures("native").runs_on(9, 0));
  CHECK(Architectures("all-major").text() == "all-major");
}
