// Inverse frequencies against transformers 5.23 (ROPE_INIT_FUNCTIONS and the default), printed with nine digits.
#include <cmath>

#include "catch.h"
#include "model/model_config.h"

using namespace bolide;

namespace {

void check(const RopeConfig& rope, const std::vector<float>& expected) {
  const std::vector<float> got = rope_inverse_frequencies(rope, static_cast<int>(2 * expected.size()));
  REQUIRE(got.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    INFO("frequency " << i);
    // Two units in the last place: powf differs by one between math libraries.
    CHECK(std::abs(got[i] - expected[i]) <= 2.4e-7f * expected[i]);
  }
}

}  // namespace

TEST_CASE("inverse frequencies without scaling") {
  check({.theta = 10000.0},
        {1.0f, 0.562341332f, 0.316227764f, 0.177827939f, 0.100000001f, 0.0562341288f, 0.0316227786f, 0.0177827943f, 0.00999999978f,
         0.00562341325f, 0.00316227786f, 0.00177827943f, 0.00100000005f, 0.000562341302f, 0.000316227786f, 0.00017782794f});
}

TEST_CASE("inverse frequencies with linear scaling") {
  check({.theta = 10000.0, .scaling = RopeConfig::Scaling::linear, .factor = 4.0},
        {0.25f, 0.140585333f, 0.079056941f, 0.0444569848f, 0.0250000004f, 0.0140585322f, 0.00790569466f, 0.00444569858f, 0.00249999994f,
         0.00140585331f, 0.000790569466f, 0.000444569858f, 0.000250000012f, 0.000140585325f, 7.90569466e-05f, 4.44569851e-05f});
  check({.theta = 1e6, .scaling = RopeConfig::Scaling::linear, .factor = 2.5},
        {0.400000006f, 0.0711311772f, 0.0126491114f, 0.00224936521f, 0.000400000019f, 7.11311732e-05f, 1.26491095e-05f, 2.24936548e-06f});
}

TEST_CASE("inverse frequencies with llama3 scaling: kept, blended and stretched wavelengths") {
  check({.theta = 500000.0,
         .scaling = RopeConfig::Scaling::llama3,
         .factor = 32.0,
         .low_freq_factor = 1.0,
         .high_freq_factor = 4.0,
         .original_context = 8192},
        {1.0f,
         0.663601279f,
         0.440366626f,
         0.292227834f,
         0.193922758f,
         0.128687382f,
         0.0853971019f,
         0.0566696189f,
         0.0376060307f,
         0.0249554086f,
         0.0165604409f,
         0.0109895291f,
         0.00729266508f,
         0.00483942125f,
         0.00321144611f,
         0.00129054801f,
         0.000429556705f,
         9.70828623e-05f,
         1.94616387e-05f,
         1.29147675e-05f,
         8.57025589e-06f,
         5.68723226e-06f,
         3.77405445e-06f,
         2.50446715e-06f,
         1.66196742e-06f,
         1.10288363e-06f,
         7.31874934e-07f,
         4.85673127e-07f,
         3.22293289e-07f,
         2.1387423e-07f,
         1.41927202e-07f,
         9.41830649e-08f});
  check({.theta = 10000.0,
         .scaling = RopeConfig::Scaling::llama3,
         .factor = 8.0,
         .low_freq_factor = 1.0,
         .high_freq_factor = 4.0,
         .original_context = 512},
        {1.0f, 0.316227764f, 0.100000001f, 0.0184966773f, 0.00124999997f, 0.000395284733f, 0.000125000006f, 3.95284733e-05f});
}
