// Runs a test body once per SIMD target that is compiled in and that this CPU has.
#pragma once

#include <string>

#include "cpu/simd_targets.h"
#include "hwy/highway.h"

namespace bolide {

template <class Body>
void for_each_simd_target(const Body& body) {
  for (uint64_t rest = static_cast<uint64_t>(hwy::SupportedTargets() & HWY_TARGETS); rest != 0; rest &= rest - 1) {
    const auto target = static_cast<int64_t>(rest & (~rest + 1));
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body(std::string(hwy::TargetName(target)));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace bolide
