#include "core/files.h"
#include "text/sentencepiece_tokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"

namespace bolide {

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& folder) {
  const std::filesystem::path json = folder / "tokenizer.json";
  if (std::filesystem::exists(json)) {
    const TokenizerSettings settings = load_tokenizer_settings(folder);
    return parse_tokenizer_json(read_file(json, ExitCode::model), json.string(), settings.added_tokens);
  }
  const std::filesystem::path model = folder / "tokenizer.model";
  if (std::filesystem::exists(model)) {
    const TokenizerSettings settings = load_tokenizer_settings(folder);
    return parse_sentencepiece(read_file(model, ExitCode::model), model.string(), settings);
  }
  return nullptr;
}

}  // namespace bolide
