#include "cpu/streaming.h"

namespace bolide {

Streaming streaming() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_is("amdfam19h")) return {PrefetchInto::l2, false};  // Zen 3 and 4
  if (__builtin_cpu_is("amd")) return {PrefetchInto::l1_once, false};
  if (__builtin_cpu_is("intel")) return {PrefetchInto::l1, true};
#endif
  return {PrefetchInto::l1, false};
}

}  // namespace bolide
