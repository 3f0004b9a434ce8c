// How this processor brings bytes from memory the fastest.
#pragma once

#include <cstdint>

namespace bolide {

// Where prefetches bring what comes from memory.
enum class PrefetchInto : uint8_t {
  l1,       // and every cache on the way
  l1_once,  // past the larger caches, which keep their room: non-temporal
  l2,       // and no nearer: L1's few outstanding misses are left to the loads themselves
};

struct Streaming {
  PrefetchInto into;  // weights that few tokens read; where it is L2, K and V of decode and the weights of bf16 products, too
  bool four_streams;  // one token's weights: four streams side by side instead of one
};

// Measured on each kind of processor (docs/performance.md). Zen 5 fetches weights as fast past L2, which leaves that to what is used again.
// Zen 4 loses a quarter and more by prefetches into L1, of either kind. Intel fetches non-temporal ones by the few outstanding misses of
// L1 alone, half of memory's rate, and reads four streams faster than one, which AMD does not.
Streaming streaming();

}  // namespace bolide
