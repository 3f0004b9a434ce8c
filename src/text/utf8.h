// UTF-8 validation and repair.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace bolide {

// Offset of the first byte that is not part of a valid sequence (Unicode 15, table 3-7), or nothing.
std::optional<size_t> first_invalid_utf8(std::string_view bytes);

// Invalid sequences replaced by U+FFFD, one per maximal subpart (the WHATWG and Rust rule).
std::string utf8_lossy(std::string_view bytes);

// Length of the longest prefix that does not end inside a possibly valid, unfinished sequence (holds back at most 3 bytes).
size_t utf8_complete_prefix(std::string_view bytes);

}  // namespace bolide
