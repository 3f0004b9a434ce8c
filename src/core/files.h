// Whole files as strings.
#pragma once

#include <filesystem>
#include <string>

#include "core/error.h"

namespace bolide {

// Bytes as they are. Throws Error with `code`, naming the file and the system's reason.
std::string read_file(const std::filesystem::path& path, ExitCode code = ExitCode::failed);

}  // namespace bolide
