// git-lfs leaves a small text file in place of weights that were not fetched.
// Format: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
#pragma once

#include <string>
#include <string_view>

namespace bolide {

bool is_lfs_pointer(std::string_view file);
std::string lfs_pointer_text(const std::string& file_name, size_t bytes, const std::string& folder);

}  // namespace bolide
