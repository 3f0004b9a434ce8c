// What tokenize and detokenize share: the folder's tokenizer, and JSONL in, results out, line by line.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "cli/common_options.h"
#include "cli/json.h"
#include "text/tokenizer.h"

namespace bolide {

// Resolves the model. Throws what that throws, and ModelError when the folder holds no tokenizer.
std::unique_ptr<Tokenizer> require_tokenizer(ModelOptions& model);

// Calls `convert` with the JSON object of each line that is not blank and writes what it returns. What it throws, and lines that are no
// JSON object, end the work with an Error that names the line; what came before is written.
void convert_jsonl(const std::string& path, const std::function<std::string(const Json& object)>& convert);

// The member `key` of an object. Throws Error when it is absent.
const Json& require_member(const Json& object, const char* key);

}  // namespace bolide
