// Decoding as all tokenizers of this room do it: look tokens up, leave special ones out, run the decoder.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "text/decoder.h"
#include "text/tokenizer.h"

namespace bolide {

// The whole text. Throws Error for an id that `tokenizer` has no token for.
std::string decode_all(const Tokenizer& tokenizer, const Decoder& decoder, std::span<const int32_t> ids, bool skip_special);

// Both must outlive the stream.
std::unique_ptr<StreamDecoder> make_stream(const Tokenizer& tokenizer, const Decoder& decoder, bool skip_special);

// "tokenizer.json (BPE, 151,669 tokens)"; `source` may be a path.
std::string tokenizer_description(const std::string& source, const std::string& kind, int32_t tokens);

}  // namespace bolide
