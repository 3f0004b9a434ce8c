// The libraries that this room is built on, for `bolide doctor`.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace bolide {

// Name and version of each as loaded; the version is empty where a library does not say.
std::vector<std::pair<std::string, std::string>> text_libraries();

}  // namespace bolide
