// JSON as the commands print and read it: keys in the order written, numbers no longer than they must be, always valid UTF-8.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace bolide {

using Json = nlohmann::ordered_json;

// The shortest decimal that reads back as this float; null for infinities and NaN, which JSON cannot hold.
Json json_number(float value);

// One line. Bytes that are not valid UTF-8 (in file names; texts are valid) become U+FFFD.
std::string json_text(const Json& value);

// Throws Error "not valid JSON: ...".
Json parse_json(const std::string& text);

}  // namespace bolide
