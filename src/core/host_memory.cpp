#include "core/host_memory.h"

#include <unistd.h>

#include <fstream>
#include <limits>
#include <sstream>
#include <string>

namespace bolide {

size_t available_host_memory() {
  constexpr const char* kKey = "MemAvailable:";
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(kKey)) continue;
    size_t kilobytes = 0;
    if (std::istringstream(line.substr(std::string(kKey).size())) >> kilobytes) return kilobytes * 1024;
  }
  const long pages = ::sysconf(_SC_PHYS_PAGES), size = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(size) : std::numeric_limits<size_t>::max();
}

}  // namespace bolide
