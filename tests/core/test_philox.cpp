#include "catch.h"
#include "core/philox.h"

using namespace bolide;

TEST_CASE("philox4x32-10 gives the known answers of Random123") {
  const Philox4 zero = philox4x32(0, 0, 0);
  CHECK(zero.v[0] == 0x6627e8d5u);
  CHECK(zero.v[1] == 0xe169c58du);
  CHECK(zero.v[2] == 0xbc57ac4cu);
  CHECK(zero.v[3] == 0x9b00dbd8u);
  const Philox4 ones = philox4x32(~0ull, ~0ull, ~0ull);
  CHECK(ones.v[0] == 0x408f276du);
  CHECK(ones.v[1] == 0x41c83b0eu);
  CHECK(ones.v[2] == 0xa20bc7c6u);
  CHECK(ones.v[3] == 0x6d5451fdu);
}

TEST_CASE("uniform numbers stay inside (0, 1) and depend on every key") {
  CHECK(uniform_open(0) > 0.0f);
  CHECK(uniform_open(~0u) < 1.0f);
  const float base = sampling_uniform(1, 2, 3, 4);
  CHECK(base == sampling_uniform(1, 2, 3, 4));
  CHECK(base != sampling_uniform(2, 2, 3, 4));
  CHECK(base != sampling_uniform(1, 3, 3, 4));
  CHECK(base != sampling_uniform(1, 2, 4, 4));
  CHECK(base != sampling_uniform(1, 2, 3, 5));
}
