// Facts about this binary, fixed at configure time.
#pragma once

namespace bolide {

struct BuildInfo {
  const char* version;     // "0.1.0"
  const char* commit;      // abbreviated hash, "-dirty" when the tree had changes
  const char* compiler;    // "GNU 12.2.0"
  const char* build_type;  // "Release"
};
BuildInfo build_info();

}  // namespace bolide
