// tokenizer.json in memory: the two big tables streamed into compact form, everything else as a JSON tree.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "text/bpe.h"
#include "text/vocabulary.h"

namespace bolide {

struct TokenizerFile {
  Vocabulary vocabulary;  // model.vocab where it is an object
  MergeList merges;       // model.merges: "a b" or ["a", "b"]
  bool has_vocabulary = false, has_merges = false;
  nlohmann::json rest;  // without those two
};

// Throws ModelError that names `source` for what is not JSON, nests too deep, or has a vocab or merges of another form.
TokenizerFile read_tokenizer_file(std::string_view text, const std::string& source);

}  // namespace bolide
