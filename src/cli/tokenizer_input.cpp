#include "cli/tokenizer_input.h"

#include "cli/streams.h"
#include "core/error.h"
#include "core/messages.h"

namespace bolide {

std::unique_ptr<Tokenizer> require_tokenizer(ModelOptions& model) {
  model.resolve();
  auto tokenizer = load_tokenizer(model.folder);
  if (!tokenizer) throw ModelError(fmt::format("{} holds neither tokenizer.json nor tokenizer.model", in_quotes(model.folder)));
  return tokenizer;
}

void convert_jsonl(const std::string& path, const std::function<std::string(const Json&)>& convert) {
  const std::string where = path == "-" ? "standard input" : path;
  LineReader lines(path);
  ResultStream out;
  std::string line;
  while (!out.failed() && lines.next(line)) {
    if (line.find_first_not_of(" \t") != std::string::npos) {
      try {
        const Json object = parse_json(line);
        if (!object.is_object()) throw Error("not a JSON object");
        out.write(convert(object));
      } catch (const Error& error) {
        throw Error(fmt::format("{} line {}: {}", where, lines.number(), error.what()));
      }
    }
    if (lines.drained()) out.flush();
  }
  out.finish();
}

const Json& require_member(const Json& object, const char* key) {
  const auto member = object.find(key);
  if (member == object.end()) throw Error(fmt::format("the object has no \"{}\"", key));
  return *member;
}

}  // namespace bolide
