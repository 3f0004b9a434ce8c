// The machine's memory, as the kernel counts it.
#pragma once

#include <cstddef>

namespace bolide {

// Bytes that a program can take without swapping: MemAvailable of /proc/meminfo, the page cache's share included; where that is missing,
// all physical memory; where even that is not known, the largest size_t.
size_t available_host_memory();

}  // namespace bolide
