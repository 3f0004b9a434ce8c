// Whole files as strings.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/error.h"

namespace bolide {

// Bytes as they are. Throws Error with `code`, naming the file and the system's reason.
std::string read_file(const std::filesystem::path& path, ExitCode code = ExitCode::failed);

// Replaces a file as a whole: whoever reads it, and whatever happens in between, finds the old bytes or the new ones. A link is followed,
// not replaced; a new file can be read by its owner alone. Throws Error naming the file and the system's reason.
void write_file(const std::filesystem::path& path, std::string_view bytes);

}  // namespace bolide
