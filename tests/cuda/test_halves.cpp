// Decode steps of many sequences in two halves side by side (cuda/halves.h), against the same ops one by one.
#include <algorithm>
#include <numeric>

#include "catch.h"
#include "decode_model.h"
#include "gpu.h"
#include "set_variable.h"
#include "step_model.h"

using namespace bolide;
using namespace bolide::cuda_test;

namespace {

constexpr int32_t kSequences = 100;

StepModelOptions options_of(DType kv, bool vectors) {
  StepModelOptions options;
  options.dims = {256, 512, 3, 4, 2, 64, 500};
  options.rows = 128;
  options.chunk = 64;
  options.chunks = 5;
  options.sequences = kSequences;
  options.vectors = vectors;
  options.window = vectors ? 70 : 0;
  options.kv = kv;
  return options;
}

const Positions kLast = [] {  // the sequences' last positions, whose steps are run
  Positions last;
  for (int32_t s = 0; s < kSequences; ++s) last.push_back(s * 53 % 290 + 1);
  return last;
}();

// Runs a step of these sequences at their last positions; the rows' logits.
template <class Run>
std::vector<std::vector<float>> logits_of(StepModel& model, const std::vector<int32_t>& which, const Run& run) {
  Positions positions;
  for (const int32_t s : which) positions.push_back(kLast[static_cast<size_t>(s)]);
  model.fill_each(which, positions, std::vector<SamplingSpec>(which.size()));
  run();
  std::vector<std::vector<float>> rows;
  for (size_t i = 0; i < which.size(); ++i) rows.push_back(model.logits(static_cast<int32_t>(i)));
  return rows;
}

}  // namespace

TEST_CASE("halves of a step side by side give what its ops give one by one") {
  const SetVariable wherever_possible("BOLIDE_HALVES", "1");
  const auto backend = cuda_test::gpu("halves of a step side by side give what its ops give one by one");
  if (!backend) return;
  for (const DType kv : {DType::bf16, DType::f8}) {
    for (const bool vectors : {false, true}) {
      INFO("KV " << dtype_name(kv) << ", vectors " << vectors);
      StepModel model(*backend, options_of(kv, vectors));
      run_contexts(*backend, model, kLast);
      for (const int32_t rows : {kSequences, 77, 2, 1}) {
        INFO("rows " << rows);
        std::vector<int32_t> which(static_cast<size_t>(rows));
        std::iota(which.begin(), which.end(), 0);
        const auto in_halves = [&] { backend->run_step(model.each); };
        const auto first = logits_of(model, which, in_halves);
        CHECK(backend->step_form(model.each, 1).text.find("halves") != std::string::npos);
        for (int replay = 0; replay < 3; ++replay) {
          const auto again = logits_of(model, which, in_halves);
          for (size_t i = 0; i < which.size(); ++i) CHECK(same_bits(first[i], again[i]));
        }
        const auto one_by_one = logits_of(model, which, [&] { backend->Backend::run_step(model.each); });
        for (size_t i = 0; i < which.size(); ++i) {
          INFO("row " << i);
          CHECK(distance(first[i], one_by_one[i]) < 1e-2);
        }
        // In the other order rows change halves.
        std::reverse(which.begin(), which.end());
        const auto reversed = logits_of(model, which, in_halves);
        for (size_t i = 0; i < which.size(); ++i) CHECK(same_bits(first[i], reversed[which.size() - 1 - i]));
      }
    }
  }
}

TEST_CASE("halves are for steps with much of K and V to read") {
  const SetVariable as_it_pleases("BOLIDE_HALVES", nullptr);
  const auto backend = cuda_test::gpu("halves are for steps with much of K and V to read");
  if (!backend) return;
  StepModel model(*backend, options_of(DType::bf16, false));
  const auto in_halves = [&](int64_t context_tokens) {
    model.each.context_tokens = context_tokens;
    (void)logits_of(model, {0, 1, 2}, [&] { backend->run_step(model.each); });
    return backend->step_form(model.each, 1).text.find("halves") != std::string::npos;
  };
  CHECK_FALSE(in_halves(kSequences * 100));
  CHECK(in_halves(kSequences * 10'000));
  model.each.one_row_each = false;
  CHECK_FALSE(in_halves(kSequences * 10'000));
}
