#include "engine/output_text.h"

#include "core/error.h"

namespace bolide {

OutputText::OutputText(const Tokenizer* tokenizer, const SamplingParams& params) : tokenizer_(tokenizer) {
  if (!tokenizer) {
    if (!params.stop.empty()) {
      throw UsageError("--stop needs a tokenizer, and the model's folder has none. Use --stop-token-id, or add tokenizer.json");
    }
    return;
  }
  decoder_ = tokenizer->stream(params.skip_special);
  if (!params.stop.empty()) stops_.emplace(params.stop, params.include_stop);
}

OutputText::Piece OutputText::push(int32_t id) {
  if (!decoder_ || !tokenizer_->token(id)) return {};
  std::string text = decoder_->push(id);
  if (!stops_) return {std::move(text), std::nullopt};
  StopStrings::Result result = stops_->push(text);
  return {std::move(result.text), std::move(result.matched)};
}

OutputText::Piece OutputText::finish() {
  if (!decoder_) return {};
  std::string text = decoder_->finish();
  if (!stops_) return {std::move(text), std::nullopt};
  StopStrings::Result result = stops_->push(text);
  if (result.matched) return {std::move(result.text), std::move(result.matched)};
  return {result.text + stops_->finish(), std::nullopt};
}

}  // namespace bolide
