// Tokenizer test data: packed folders of tests/data, unpacked once per process.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace bolide::test {

// Folder with the content of tests/data/ARCHIVE (a .tar.xz); fails the test, saying so, where `tar` or `xz` are missing.
std::filesystem::path unpacked(const std::string& archive);

// "qwen3" and "llama2" as published, and the names in tests/text/make_oracle.py. Loaded once per process.
const Tokenizer& tokenizer(const std::string& name);
const std::vector<std::string>& synthetic_names();

// Rows of tests/data/tokenizer-cases: NAME.json as published with the reference data, and the larger random set.
nlohmann::json published_cases(const std::string& name);
std::vector<nlohmann::json> oracle_cases(const std::string& name);

// Streams ids, checks that every piece is valid UTF-8, and returns the pieces joined.
std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special);

}  // namespace bolide::test
