// The steps that decoders are made of. Each is fed tokens (or, after Fuse, fragments of the one token) and hands on text.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "text/decoder.h"
#include "text/pattern.h"

namespace bolide {

// No decoder: tokens with blanks between them.
class JoinStep : public DecodeStep {
 public:
  void push(std::string_view token, TokenSink& next) override;

 private:
  bool first_ = true;
};

// Characters to bytes, invalid UTF-8 to U+FFFD. Makes one token of all.
class ByteLevelStep : public DecodeStep {
 public:
  void push(std::string_view token, TokenSink& next) override;
  void finish(TokenSink& next) override;

 private:
  std::string held_;  // an unfinished character
};

// <0xE2> and the like to bytes; see Decoder about invalid ones.
class ByteFallbackStep : public DecodeStep {
 public:
  void push(std::string_view token, TokenSink& next) override;
  void finish(TokenSink& next) override;

 private:
  void drain(TokenSink& next, bool at_end);
  std::string held_;  // an unfinished character
};

class ReplaceStep : public DecodeStep {
 public:
  ReplaceStep(std::shared_ptr<const Pattern> pattern, std::string content) : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void push(std::string_view token, TokenSink& next) override;

 private:
  std::shared_ptr<const Pattern> pattern_;
  std::string content_;
};

// The replacement character to a blank, or to nothing in the first token where the encoder may have put one in front.
class MetaspaceStep : public DecodeStep {
 public:
  MetaspaceStep(std::string replacement, bool drops_first) : replacement_(std::move(replacement)), drop_(drops_first) {}
  void push(std::string_view token, TokenSink& next) override;

 private:
  std::string replacement_;
  bool drop_;
};

// Up to `start` characters `content` off the front of every token and up to `stop` off its end.
class StripStep : public DecodeStep {
 public:
  StripStep(std::string content, size_t start, size_t stop) : content_(std::move(content)), start_(start), stop_(stop) {}
  void push(std::string_view token, TokenSink& next) override;

 private:
  std::string content_;
  size_t start_, stop_;
};

// The same for the one token that arrives in fragments.
class StripFusedStep : public DecodeStep {
 public:
  StripFusedStep(std::string content, size_t start, size_t stop) : content_(std::move(content)), start_(start), stop_(stop) {}
  void push(std::string_view fragment, TokenSink& next) override;
  void finish(TokenSink& next) override;

 private:
  std::string content_;
  size_t start_;  // how many may still be dropped in front
  size_t stop_;
  std::string held_;  // trailing characters `content`, at most stop_ of them
};

}  // namespace bolide
