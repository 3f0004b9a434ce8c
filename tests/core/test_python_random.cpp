// Numbers that CPython 3 prints for the same calls.
#include <cstdint>
#include <vector>

#include "catch.h"
#include "core/python_random.h"

using namespace bolide;

TEST_CASE("Python's random numbers: bits, floats and integers of a range") {
  PythonRandom zero(0);
  CHECK(zero.getrandbits(32) == 3626764237u);
  CHECK(zero.getrandbits(32) == 1654615998u);
  CHECK(zero.getrandbits(32) == 3255389356u);
  uint32_t last = 0;
  for (int i = 0; i < 1000; ++i) last = zero.getrandbits(32);  // beyond the first 624 words
  CHECK(last == 1494123482u);

  PythonRandom one(1);
  CHECK(one.getrandbits(32) == 577090037u);
  CHECK(one.getrandbits(32) == 2444712010u);
  CHECK(one.getrandbits(32) == 3639700191u);
  for (const uint32_t bits : {102u, 97u, 8u, 32u, 15u}) CHECK(one.getrandbits(7) == bits);
  CHECK(one.randint(-5, 5) == 2);
  CHECK(one.random() == 0.7609624449125756);
  CHECK(one.random() == 0.47224524357611664);

  PythonRandom wide(12345678901234567890u);  // a seed of two digits
  for (const int64_t number : {67111, 71669, 84189, 58660, 42815}) CHECK(wide.randint(0, 99999) == number);
  for (const uint32_t bits : {1520545724u, 2258305325u, 985677794u}) CHECK(wide.getrandbits(32) == bits);
  CHECK(wide.random() == 0.5714061072234214);
}

TEST_CASE("Python's random numbers: the totals that a published workload is known by") {
  // nano-vllm's benchmark: prompts of 100 to 1,024 ids, then output lengths of 100 to 1,024.
  PythonRandom random(0);
  int64_t in = 0, out = 0, sum = 0;
  for (int i = 0; i < 256; ++i) {
    const int64_t length = random.randint(100, 1024);
    in += length;
    for (int64_t t = 0; t < length; ++t) sum += random.randint(0, 10000);
  }
  for (int i = 0; i < 256; ++i) out += random.randint(100, 1024);
  CHECK(in == 142827);
  CHECK(out == 133966);
  CHECK(sum > in * 4900);
  CHECK(sum < in * 5100);
}

TEST_CASE("a range of one number draws until it comes") {
  PythonRandom random(3);
  for (int i = 0; i < 20; ++i) CHECK(random.randint(7, 7) == 7);
}
