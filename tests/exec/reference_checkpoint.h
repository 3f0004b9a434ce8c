// The packed reference checkpoints of tests/data/reference (made by tools/make_reference.py), unpacked once per test program.
#pragma once

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace bolide::test {

// A folder below the system's temporary one, removed when the program ends.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "bolide-test-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("mkdtemp " + name);
    path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline const std::filesystem::path& scratch_folder() {
  static const ScratchFolder folder;
  return folder.path();
}

inline std::filesystem::path reference_folder(const std::string& name) {
  const std::filesystem::path folder = scratch_folder() / name;
  if (std::filesystem::exists(folder)) return folder;
  const std::string archive = std::string(BOLIDE_TEST_DATA) + "/reference/" + name + ".tar.xz", into = scratch_folder().string();
  std::string arguments[] = {"tar", "-xJf", archive, "-C", into};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(), arguments[3].data(), arguments[4].data(), nullptr};
  pid_t child = 0;
  int status = 0;
  if (posix_spawnp(&child, "tar", nullptr, nullptr, argv, environ) != 0 || waitpid(child, &status, 0) != child || status != 0) {
    throw std::runtime_error("tar could not unpack " + archive + " (are tar and xz installed?)");
  }
  return folder;
}

struct GreedyStep {
  int32_t id;
  double logprob, margin;
  std::vector<double> top_logprobs;  // of the best five, in order
};

struct Reference {
  std::vector<int32_t> prompt;
  std::vector<double> prompt_logprobs;  // [i] of token i + 1
  std::vector<GreedyStep> greedy;
  std::vector<std::vector<double>> trace;  // x at the last prompt position, first values, 2 L + 1 stages
};

inline Reference load_reference(const std::filesystem::path& folder) {
  std::ifstream file(folder / "reference.json");
  const nlohmann::json json = nlohmann::json::parse(file);
  Reference reference;
  reference.prompt = json.at("prompt_ids").get<std::vector<int32_t>>();
  reference.prompt_logprobs = json.at("prompt_logprobs").get<std::vector<double>>();
  for (const nlohmann::json& step : json.at("greedy")) {
    GreedyStep& out = reference.greedy.emplace_back();
    out.id = step.at("id").get<int32_t>();
    out.logprob = step.at("logprob").get<double>();
    out.margin = step.at("margin").get<double>();
    for (const nlohmann::json& top : step.at("top5")) out.top_logprobs.push_back(top.at(1).get<double>());
  }
  reference.trace = json.at("trace").get<std::vector<std::vector<double>>>();
  return reference;
}

inline const std::vector<std::string>& reference_names() {
  static const std::vector<std::string> names = {"qwen3-28l-bf16",
                                                 "llama-gqa-bf16",
                                                 "tiny-qwen2-bf16",
                                                 "tiny-gemma-bf16",
                                                 "tiny-mistral-window-f16",
                                                 "tiny-llama3-rope-bf16",
                                                 "tiny-llama-bias-f32-shards",
                                                 "tiny-qwen3-text-bf16"};
  return names;
}

}  // namespace bolide::test
