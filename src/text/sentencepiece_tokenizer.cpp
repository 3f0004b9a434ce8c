#include "text/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/stream.h"
#include "text/utf8.h"

namespace bolide {
namespace {

using sentencepiece::SentencePieceProcessor;

// A field that stands twice in a protocol buffer is merged, the later value wins: normalizer_spec (3) { add_dummy_prefix (3) = false }.
constexpr std::string_view kNoDummyPrefix("\x1A\x02\x18\x00", 4);
constexpr std::string_view kBlank = "\xE2\x96\x81";  // U+2581, which stands for a blank in pieces

std::unique_ptr<SentencePieceProcessor> load(const std::string& model, const std::string& source) {
  auto processor = std::make_unique<SentencePieceProcessor>();
  const auto status = processor->LoadFromSerializedProto(model);
  if (!status.ok())
    throw ModelError(fmt::format("{}: not a usable sentencepiece model: {}. Fetch the file again", source, status.message()));
  return processor;
}

std::vector<AddedToken> special_tokens(const SentencePieceProcessor& processor, const TokenizerSettings& settings) {
  std::vector<AddedToken> out;
  for (int id = 0; id < processor.GetPieceSize(); ++id) {
    if (!processor.IsControl(id) && !processor.IsUnknown(id)) continue;
    AddedToken token;
    token.content = processor.IdToPiece(id);
    token.id = id;
    token.special = true;
    out.push_back(std::move(token));
  }
  for (AddedToken token : settings.added_tokens) {
    token.normalized = false;  // no normalizer runs outside the library
    out.push_back(std::move(token));
  }
  return out;
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(const std::string& model, const std::string& source, const TokenizerSettings& settings)
      : source_(source),
        processor_(load(model, source)),
        bare_(load(model + std::string(kNoDummyPrefix), source)),
        prefix_first_only_(!settings.legacy.value_or(true)),
        prefix_never_(!settings.add_prefix_space.value_or(true)),
        added_(special_tokens(*processor_, settings), nullptr),
        decoder_(Decoder::sentencepiece(!prefix_never_ && adds_prefix(*processor_))) {
    const auto id_of = [&](const std::optional<std::string>& token, int otherwise) {
      return token ? find(*token) : otherwise >= 0 ? std::optional<int32_t>(otherwise) : std::nullopt;
    };
    if (settings.add_bos_token.value_or(true)) bos_ = id_of(settings.bos_token, processor_->bos_id());
    if (settings.add_eos_token.value_or(false)) eos_ = id_of(settings.eos_token, processor_->eos_id());
  }

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override {
    if (text.size() > kMaxTextBytes) throw Error(fmt::format("the text has {} bytes, more than {} MiB", text.size(), kMaxTextBytes >> 20));
    if (const std::optional<size_t> bad = first_invalid_utf8(text))
      throw Error(fmt::format("the text is not valid UTF-8 at byte {}", *bad));
    std::vector<int32_t> ids;
    if (options.add_special && bos_) ids.push_back(*bos_);
    for (const AddedTokens::Segment& segment : added_.cut_raw(text, options.parse_special, options.plain)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
        continue;
      }
      const bool with_prefix = !prefix_never_ && (!prefix_first_only_ || segment.begin == 0);
      std::vector<int> part;
      const auto status = (with_prefix ? processor_ : bare_)->Encode(text.substr(segment.begin, segment.end - segment.begin), &part);
      if (!status.ok()) throw Error(fmt::format("{}: the sentencepiece library cannot encode the text: {}", source_, status.message()));
      ids.insert(ids.end(), part.begin(), part.end());
    }
    if (options.add_special && eos_) ids.push_back(*eos_);
    return ids;
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    return decode_all(*this, decoder_, ids, skip_special);
  }
  std::unique_ptr<StreamDecoder> stream(bool skip_special) const override { return make_stream(*this, decoder_, skip_special); }

  int32_t vocab_size() const override { return std::max<int32_t>(processor_->GetPieceSize(), added_.vocabulary().id_limit()); }
  std::optional<std::string> token(int32_t id) const override {
    if (const auto added = added_.vocabulary().token(id)) return std::string(*added);
    if (id < 0 || id >= processor_->GetPieceSize()) return std::nullopt;
    return processor_->IdToPiece(id);
  }
  std::optional<int32_t> find(std::string_view token) const override {
    if (const int32_t id = added_.vocabulary().find(token); id >= 0) return id;
    const int id = processor_->PieceToId(token);
    if (id < 0 || id >= processor_->GetPieceSize() || processor_->IdToPiece(id) != token) return std::nullopt;
    return id;
  }
  bool is_special(int32_t id) const override { return added_.is_special(id); }
  std::vector<AddedTokenName> added_tokens() const override { return added_.names(); }
  std::string description() const override { return tokenizer_description(source_, "sentencepiece", vocab_size()); }

 private:
  static bool adds_prefix(const SentencePieceProcessor& processor) {
    const std::vector<std::string> pieces = processor.EncodeAsPieces("a");
    return !pieces.empty() && pieces[0].starts_with(kBlank);
  }

  std::string source_;
  std::unique_ptr<SentencePieceProcessor> processor_;  // as the file says
  std::unique_ptr<SentencePieceProcessor> bare_;       // without the blank in front
  bool prefix_first_only_, prefix_never_;
  AddedTokens added_;
  Decoder decoder_;
  std::optional<int32_t> bos_, eos_;
};

}  // namespace

std::unique_ptr<Tokenizer> parse_sentencepiece(const std::string& model, const std::string& source, const TokenizerSettings& settings) {
  return std::make_unique<SentencePieceTokenizer>(model, source, settings);
}

}  // namespace bolide
