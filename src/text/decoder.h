// The "decoder" node of tokenizer.json: tokens back to text, one token at a time.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_node.h"

namespace bolide {

// Where a step hands on what it has made.
class TokenSink {
 public:
  virtual ~TokenSink() = default;
  virtual void take(std::string_view token) = 0;
};

// One step at work on one sequence of tokens.
class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual void push(std::string_view token, TokenSink& next) = 0;
  virtual void finish(TokenSink&) {}
};

// One step as the file describes it. Immutable.
class DecodeStepFactory {
 public:
  virtual ~DecodeStepFactory() = default;
  virtual std::unique_ptr<DecodeStep> start() const = 0;
};

class DecodeRun;

// A chain of steps. Behaves like decode_chain of the `tokenizers` library followed by joining everything, with one difference: the
// library's ByteFallback turns a run of byte tokens into one U+FFFD per byte as soon as one of them is invalid, valid characters of
// the run included, which no stream can know in time. Here valid characters of such a run stay, and each byte that belongs to none
// becomes U+FFFD. Runs that are wholly valid, or hold no valid character, come out the same. For the same reason, steps between
// ByteFallback and Fuse see such a run character by character.
class Decoder {
 public:
  // Without a decoder node, tokens are joined by blanks.
  Decoder();
  // Supported: ByteLevel, Metaspace, Replace, ByteFallback, Fuse, Strip, Sequence. Throws ModelError.
  explicit Decoder(const JsonNode& node);
  // The decoder that checkpoints converted from sentencepiece carry: Replace, ByteFallback, Fuse, Strip of one blank in front.
  static Decoder sentencepiece(bool strip_front);

  DecodeRun start() const;

 private:
  void add(const JsonNode& node);
  bool fused_ = false;  // from here on, everything is one token that arrives in fragments
  std::vector<std::shared_ptr<const DecodeStepFactory>> steps_;
};

// One decode in progress: at most 3 bytes are held back (and the blanks that a Strip at the end may have to drop).
class DecodeRun {
 public:
  explicit DecodeRun(std::vector<std::unique_ptr<DecodeStep>> steps) : steps_(std::move(steps)) {}
  void push(std::string_view token, std::string& out);
  void finish(std::string& out);

 private:
  std::vector<std::unique_ptr<DecodeStep>> steps_;
};

}  // namespace bolide
