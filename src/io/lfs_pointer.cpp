#include "io/lfs_pointer.h"

#include <fmt/format.h>

namespace bolide {

bool is_lfs_pointer(std::string_view file) { return file.starts_with("version https://git-lfs"); }

std::string lfs_pointer_text(const std::string& file_name, size_t bytes, const std::string& folder) {
  return fmt::format("{} is a git-lfs pointer ({} bytes), not weights. Run 'git lfs pull' in {}", file_name, bytes, folder);
}

}  // namespace bolide
