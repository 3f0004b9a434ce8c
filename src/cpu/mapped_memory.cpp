#include "cpu/mapped_memory.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "core/error.h"

namespace bolide {

MappedMemory::MappedMemory(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    throw MemoryError(
        fmt::format("cannot get {:.1f} MiB of memory: {}. Lower --ctx-size or --max-num-batched-tokens, or close other programs",
                    static_cast<double>(bytes) / (1 << 20), std::strerror(errno)));
  }
  data_ = static_cast<std::byte*>(address);
#ifdef MADV_HUGEPAGE
  constexpr size_t kHugePage = size_t{2} << 20;
  if (bytes >= kHugePage) madvise(address, bytes, MADV_HUGEPAGE);  // advice: a kernel without huge pages may refuse
#endif
}

MappedMemory::~MappedMemory() {
  if (data_) munmap(data_, bytes_);
}

}  // namespace bolide
