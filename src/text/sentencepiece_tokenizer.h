// Tokenizers from tokenizer.model, through the sentencepiece library (Kudo and Richardson, arXiv:1808.06226).
#pragma once

#include <memory>
#include <string>

#include "text/tokenizer.h"
#include "text/tokenizer_config.h"

namespace bolide {

// `model` is the file's content, `source` its name in messages. Behaves as transformers' LlamaTokenizer over the same file:
//   - control pieces and the added tokens of tokenizer_config.json are found in the text first; the library encodes what is between;
//   - with `legacy` (the default) every stretch of text gets the model's blank in front, without it only the start of the input does;
//   - add_special puts BOS in front unless add_bos_token is false, and EOS at the end if add_eos_token is true;
//   - decoding is that of converted tokenizer.json files (Decoder::sentencepiece).
// Throws ModelError when the bytes are no sentencepiece model.
std::unique_ptr<Tokenizer> parse_sentencepiece(const std::string& model, const std::string& source, const TokenizerSettings& settings);

}  // namespace bolide
