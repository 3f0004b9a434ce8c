// The text of one sequence as it grows: ids through the stream decoder, its text through the stop strings.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "engine/sampling_params.h"
#include "text/stop_strings.h"
#include "text/tokenizer.h"

namespace bolide {

class OutputText {
 public:
  // `tokenizer` may be null: then there is no text. Throws UsageError when stop strings are asked for without a tokenizer.
  OutputText(const Tokenizer* tokenizer, const SamplingParams& params);

  struct Piece {
    std::string text;                    // safe to show now
    std::optional<std::string> matched;  // stop string that ends the sequence
  };
  // Ids inside the vocabulary's range that have no token (embedding tables may be padded in the middle, too) have no text.
  Piece push(int32_t id);
  // What was held back. Nothing may be pushed after it or after a match.
  Piece finish();

 private:
  const Tokenizer* tokenizer_;
  std::unique_ptr<StreamDecoder> decoder_;
  std::optional<StopStrings> stops_;
};

}  // namespace bolide
