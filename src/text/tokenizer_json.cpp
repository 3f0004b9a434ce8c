#include "text/tokenizer_json.h"

#include <algorithm>
#include <utility>

#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/stream.h"
#include "text/tokenizer_file.h"
#include "text/utf8.h"

namespace bolide {
namespace {

struct Parts {
  std::string source;
  std::unique_ptr<Normalizer> normalizer;       // may be null
  std::unique_ptr<PreTokenizer> pre_tokenizer;  // may be null
  std::unique_ptr<AddedTokens> added;
  std::unique_ptr<BpeModel> model;
  PostProcessor post;
  Decoder decoder;
};

class JsonTokenizer : public Tokenizer {
 public:
  explicit JsonTokenizer(Parts parts) : p_(std::move(parts)) {}

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override {
    if (text.size() > kMaxTextBytes) throw Error(fmt::format("the text has {} bytes, more than {} MiB", text.size(), kMaxTextBytes >> 20));
    if (const std::optional<size_t> bad = first_invalid_utf8(text))
      throw Error(fmt::format("the text is not valid UTF-8 at byte {}", *bad));
    std::vector<int32_t> ids;
    if (options.add_special) ids = p_.post.prefix;
    BpeEncoder encoder(*p_.model, text.size());
    for (const ByteRange range : options.plain) {
      if (p_.added->has_normalized(text.substr(range.begin, range.end - range.begin)))
        throw Error(fmt::format("{} searches its tokens in normalised text, where they cannot be told from text", p_.source));
    }
    for (const AddedTokens::Segment& segment : p_.added->cut_raw(text, options.parse_special, options.plain)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
      } else {
        encode_raw(text.substr(segment.begin, segment.end - segment.begin), segment.begin == 0, options.parse_special, encoder, ids);
      }
    }
    if (options.add_special) ids.insert(ids.end(), p_.post.suffix.begin(), p_.post.suffix.end());
    return ids;
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special) const override {
    return decode_all(*this, p_.decoder, ids, skip_special);
  }
  std::unique_ptr<StreamDecoder> stream(bool skip_special) const override { return make_stream(*this, p_.decoder, skip_special); }

  int32_t vocab_size() const override { return std::max(p_.model->vocabulary().id_limit(), p_.added->vocabulary().id_limit()); }
  std::optional<std::string> token(int32_t id) const override {
    std::optional<std::string_view> found = p_.added->vocabulary().token(id);
    if (!found) found = p_.model->vocabulary().token(id);
    return found ? std::optional(std::string(*found)) : std::nullopt;
  }
  std::optional<int32_t> find(std::string_view token) const override {
    int32_t id = p_.added->vocabulary().find(token);
    if (id < 0) id = p_.model->vocabulary().find(token);
    return id < 0 ? std::nullopt : std::optional(id);
  }
  bool is_special(int32_t id) const override { return p_.added->is_special(id); }
  std::vector<AddedTokenName> added_tokens() const override { return p_.added->names(); }
  std::string description() const override { return tokenizer_description(p_.source, "BPE", vocab_size()); }

 private:
  void encode_raw(std::string_view text, bool starts_input, bool parse_special, BpeEncoder& encoder, std::vector<int32_t>& ids) const {
    NormalizedText normalized{std::string(text)};
    if (p_.normalizer) p_.normalizer->apply(normalized);
    const std::string_view all = normalized.text;
    for (const AddedTokens::Segment& segment : p_.added->cut_normalized(all, parse_special)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
        continue;
      }
      const std::string_view view = all.substr(segment.begin, segment.end - segment.begin);
      if (!p_.pre_tokenizer) {
        encoder.encode(view, ids);
        continue;
      }
      PreTokenized pre;
      pre.text = view;
      pre.pieces = {{0, static_cast<uint32_t>(view.size())}};
      pre.limit = growth_limit(view.size());
      pre.starts_input = starts_input && segment.begin == 0 && normalized.front_intact;
      p_.pre_tokenizer->apply(pre);
      for (const Piece piece : pre.pieces) encoder.encode(pre.view(piece), ids);
    }
  }

  Parts p_;
};

std::unique_ptr<BpeModel> parse_model(const JsonNode& root, TokenizerFile& file) {
  const JsonNode node = root.at("model");
  const std::string type = node.has("type") ? node.type() : file.has_merges ? "BPE" : "(none)";
  if (type != "BPE") node.fail(fmt::format("has type '{}', which bolide does not support. Supported: BPE", type));
  if (!file.has_vocabulary) node.fail("has no 'vocab' that maps tokens to ids");
  if (!file.has_merges) node.fail("has no 'merges'");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (node.has(key) && !node.string(key).empty()) node.at(key).fail("is not empty, which bolide does not support");
  }
  if (node.has("dropout")) {
    const JsonNode dropout = node.at("dropout");
    const bool off = dropout.value().is_number() && dropout.value().get<double>() == 0.0;
    if (!off) dropout.fail("is not 0; bolide does not support random merges");
  }
  BpeOptions options;
  if (node.has("unk_token")) options.unk_token = node.string("unk_token");
  options.fuse_unk = node.boolean("fuse_unk", false);
  options.byte_fallback = node.boolean("byte_fallback", false);
  options.ignore_merges = node.boolean("ignore_merges", false);
  return std::make_unique<BpeModel>(std::move(file.vocabulary), file.merges, std::move(options), node.file());
}

// A token that the vocabulary holds already keeps the vocabulary's id.
std::vector<AddedToken> parse_added(const JsonNode& root, const Vocabulary& vocabulary, const std::vector<AddedToken>& configured) {
  std::vector<AddedToken> out;
  std::unordered_map<std::string, bool> known;
  const auto add = [&](AddedToken token) {
    if (const int32_t id = vocabulary.find(token.content); id >= 0) token.id = id;
    known[token.content] = true;
    out.push_back(std::move(token));
  };
  if (root.has("added_tokens")) {
    for (const JsonNode& node : root.at("added_tokens").elements()) add(parse_added_token(node, node.token_id("id")));
  }
  for (const AddedToken& token : configured) {
    if (!known.contains(token.content)) add(token);
  }
  return out;
}

}  // namespace

std::unique_ptr<Tokenizer> parse_tokenizer_json(std::string_view text, const std::string& source,
                                                const std::vector<AddedToken>& configured) {
  TokenizerFile file = read_tokenizer_file(text, source);
  const JsonNode root(file.rest, "", source);
  Parts parts;
  parts.source = source;
  parts.model = parse_model(root, file);
  if (root.has("normalizer")) parts.normalizer = parse_normalizer(root.at("normalizer"));
  if (root.has("pre_tokenizer")) parts.pre_tokenizer = parse_pre_tokenizer(root.at("pre_tokenizer"));
  if (root.has("post_processor")) parts.post = parse_post_processor(root.at("post_processor"));
  if (root.has("decoder")) parts.decoder = Decoder(root.at("decoder"));
  parts.added = std::make_unique<AddedTokens>(parse_added(root, parts.model->vocabulary(), configured), parts.normalizer.get());
  const auto has_token = [&](int32_t id) { return parts.added->vocabulary().token(id) || parts.model->vocabulary().token(id); };
  for (const std::vector<int32_t>* ids : {&parts.post.prefix, &parts.post.suffix}) {
    for (const int32_t id : *ids) {
      if (!has_token(id)) throw ModelError(fmt::format("{}: post_processor adds the id {}, which has no token", source, id));
    }
  }
  return std::make_unique<JsonTokenizer>(std::move(parts));
}

}  // namespace bolide
