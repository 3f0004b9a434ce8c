// model.safetensors.index.json: which shard holds which tensor.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace bolide {

using ShardIndex = std::map<std::string, std::string, std::less<>>;  // tensor name -> file name in the same folder

// Parses untrusted text: {"metadata": anything, "weight_map": {name: file}}. Shards must be plain names that end in .safetensors, so that
// an index cannot point out of its folder. Problems are appended to `problems`, each beginning with `file_name`; entries with a problem
// are left out.
ShardIndex parse_shard_index(std::string_view text, const std::string& file_name, std::vector<std::string>& problems);

}  // namespace bolide
