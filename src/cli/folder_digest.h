// Whether a model's folder is the one it was.
#pragma once

#include <cstdint>
#include <filesystem>

namespace bolide {

// Of the names, sizes and contents of a folder's files that a model is made of (*.json, *.jinja, *.model, *.safetensors); of files
// larger than a few MiB, of samples spread over them. Where the folder lies does not matter. Throws Error for what cannot be read.
uint64_t folder_digest(const std::filesystem::path& folder);

}  // namespace bolide
