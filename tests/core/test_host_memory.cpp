#include <unistd.h>

#include "catch.h"
#include "core/host_memory.h"

TEST_CASE("the memory available is some, and not more than there is") {
  const size_t available = bolide::available_host_memory();
  CHECK(available > size_t{1} << 20);
  CHECK(available <= static_cast<size_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(::sysconf(_SC_PAGESIZE)));
}
