#include "fixtures.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <stdexcept>

#include "core/files.h"
#include "text/utf8.h"

namespace bolide::test {
namespace {

namespace fs = std::filesystem;

// A fresh folder, removed when the process ends.
struct TemporaryFolder {
  fs::path path;
  TemporaryFolder() {
    std::string name = (fs::temp_directory_path() / "bolide-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("cannot make a temporary folder like " + name);
    path = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

fs::path unpacked(const std::string& archive) {
  static TemporaryFolder root;
  const fs::path folder = root.path / fs::path(archive).filename();
  if (fs::exists(folder)) return folder;
  fs::create_directory(folder);
  const std::string command = "tar -xJf '" + (fs::path(BOLIDE_TEST_DATA) / archive).string() + "' -C '" + folder.string() + "'";
  if (std::system(command.c_str()) != 0) {
    throw std::runtime_error("cannot unpack test data (are tar and xz-utils installed?): " + command);
  }
  return folder;
}

const Tokenizer& tokenizer(const std::string& name) {
  static std::map<std::string, std::unique_ptr<Tokenizer>> loaded;
  std::unique_ptr<Tokenizer>& slot = loaded[name];
  if (!slot) {
    const bool published = name == "qwen3" || name == "llama2";
    slot = load_tokenizer(unpacked("tokenizers/" + (published ? name : "synthetic") + ".tar.xz") / name);
    if (!slot) throw std::runtime_error("no tokenizer files for " + name);
  }
  return *slot;
}

const std::vector<std::string>& synthetic_names() {
  static const std::vector<std::string> names{"llama3",      "o200k",       "smollm2",       "deepseek", "roberta", "gemma",
                                              "mistral-old", "mistral-new", "metaspace-old", "flags",    "splits"};
  return names;
}

nlohmann::json published_cases(const std::string& name) {
  return nlohmann::json::parse(read_file(fs::path(BOLIDE_TEST_DATA) / "tokenizer-cases" / (name + ".json")));
}

std::vector<nlohmann::json> oracle_cases(const std::string& name) {
  std::ifstream file(unpacked("tokenizer-cases/oracle.tar.xz") / (name + ".jsonl"));
  std::vector<nlohmann::json> out;
  for (std::string line; std::getline(file, line);) out.push_back(nlohmann::json::parse(line));
  if (out.empty()) throw std::runtime_error("no oracle rows for " + name);
  return out;
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool skip_special) {
  const std::unique_ptr<StreamDecoder> stream = tokenizer.stream(skip_special);
  std::string all;
  const auto take = [&](const std::string& piece) {
    if (first_invalid_utf8(piece)) throw std::runtime_error("a streamed piece is not valid UTF-8");
    all += piece;
  };
  for (const int32_t id : ids) take(stream->push(id));
  take(stream->finish());
  return all;
}

}  // namespace bolide::test
