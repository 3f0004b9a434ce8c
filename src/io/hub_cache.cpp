#include "io/hub_cache.h"

#include <fmt/ranges.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/messages.h"
#include "io/shard_index.h"

namespace bolide {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLongestName = 200;
constexpr size_t kListedFiles = 10;
constexpr const char* kMainRevision = "main";
constexpr const char* kIndexFile = "model.safetensors.index.json";

bool is_letter_or_digit(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool valid_part(std::string_view part) {
  if (part.empty() || part.find("..") != std::string_view::npos || part.find("--") != std::string_view::npos) return false;
  for (const char end : {part.front(), part.back()}) {
    if (!is_letter_or_digit(end) && end != '_') return false;
  }
  return std::all_of(part.begin(), part.end(), [](char c) { return is_letter_or_digit(c) || c == '_' || c == '-' || c == '.'; });
}

bool is_commit(std::string_view text) { return text.size() == 40 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

std::string home_folder() {
  if (const char* home = std::getenv("HOME"); home && *home) return home;
  const passwd* entry = getpwuid(getuid());
  return entry && entry->pw_dir ? entry->pw_dir : "/";
}

std::optional<fs::path> path_of_variable(const char* name) {
  const char* value = std::getenv(name);
  if (!value || !*value) return std::nullopt;
  const std::string text = value;
  if (text == "~" || text.starts_with("~/")) return fs::path(home_folder() + text.substr(1));
  return fs::path(text);
}

std::string download_command(const HubName& name) {
  return fmt::format("hf download {}{}", name.repository, name.revision ? " --revision " + *name.revision : "");
}

std::string listed(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  const size_t all = names.size();
  if (all > kListedFiles) names.resize(kListedFiles);
  return fmt::format("{}{}", fmt::join(names, ", "), all > kListedFiles ? fmt::format(" and {} more", all - kListedFiles) : "");
}

// Names of a folder's entries that `wanted` accepts; none where the folder cannot be read.
template <typename Wanted>
std::vector<std::string> names_in(const fs::path& folder, Wanted&& wanted) {
  std::vector<std::string> names;
  std::error_code failed;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed)) {
    if (wanted(*it)) names.push_back(it->path().filename().string());
  }
  return names;
}

// What the cache holds of the model, to choose from: the names in refs, and commits that none of them points to.
std::string held_revisions(const fs::path& repository) {
  std::error_code ignored;
  const auto all = [](const fs::directory_entry&) { return true; };
  std::vector<std::string> names = names_in(repository / "refs", all);
  if (names.empty()) names = names_in(repository / "snapshots", all);
  return names.empty() ? "nothing" : listed(std::move(names));
}

// The commit a revision stands for.
std::string commit_of(const HubName& name, const fs::path& repository, const std::string& as_given, const fs::path& cache) {
  const std::string revision = name.revision.value_or(kMainRevision);
  if (is_commit(revision)) return revision;
  const fs::path ref = repository / "refs" / revision;
  std::error_code ignored;
  if (!fs::is_regular_file(ref, ignored)) {
    throw ModelError(fmt::format("model {} is in the Hugging Face cache ({}), but not its revision {} (there: {}). Get it with: {}",
                                 in_quotes(as_given), cache.string(), in_quotes(revision), held_revisions(repository),
                                 download_command({name.repository, revision})));
  }
  std::string commit = read_file(ref, ExitCode::model);
  commit.erase(commit.find_last_not_of(" \t\r\n") + 1);
  if (is_commit(commit)) return commit;
  throw ModelError(fmt::format("{} holds {}, which is no commit of 40 hexadecimal digits. Get the model again with: {}", ref.string(),
                               in_quotes(commit, 60), download_command(name)));
}

// Links whose blob is not there.
std::vector<std::string> links_without_blob(const fs::path& snapshot) {
  std::vector<std::string> names;
  std::error_code failed, ignored;
  for (fs::recursive_directory_iterator it(snapshot, failed), end; !failed && it != end; it.increment(failed)) {
    if (it->is_symlink(ignored) && !fs::exists(it->path(), ignored)) names.push_back(it->path().lexically_relative(snapshot).string());
  }
  return names;
}

// What a model needs and a download brings: its configuration and its weights, all shards of them.
std::vector<std::string> absent_files(const fs::path& snapshot) {
  std::vector<std::string> absent;
  std::error_code ignored;
  if (!fs::exists(snapshot / "config.json", ignored)) absent.emplace_back("config.json");
  if (fs::exists(snapshot / "model.safetensors", ignored)) return absent;
  if (fs::exists(snapshot / kIndexFile, ignored)) {
    std::vector<std::string> problems;  // of a damaged index: loading reports them
    for (const auto& [tensor, shard] : parse_shard_index(read_file(snapshot / kIndexFile, ExitCode::model), kIndexFile, problems)) {
      const bool known = std::find(absent.begin(), absent.end(), shard) != absent.end();
      if (!known && !fs::exists(snapshot / shard, ignored)) absent.push_back(shard);
    }
  } else if (names_in(snapshot, [](const fs::directory_entry& e) { return e.path().extension() == ".safetensors"; }).empty()) {
    absent.emplace_back("*.safetensors");
  }
  return absent;
}

void require_finished(const HubName& name, const fs::path& repository, const fs::path& snapshot, const std::string& as_given) {
  std::vector<std::string> missing = links_without_blob(snapshot);
  const auto partial = names_in(repository / "blobs", [](const fs::directory_entry& e) { return e.path().extension() == ".incomplete"; });
  // A blob left incomplete may belong to a file that nobody needs here; it counts where something is absent.
  if (missing.empty() && !partial.empty()) missing = absent_files(snapshot);
  if (missing.empty()) return;
  const std::string blobs = partial.empty() ? "" : fmt::format("; unfinished: blobs/{}", listed(partial));
  throw ModelError(fmt::format("the download of model {} into {} is not finished: {} {} missing{}. Finish it with: {}", in_quotes(as_given),
                               snapshot.string(), listed(missing), missing.size() == 1 ? "is" : "are", blobs, download_command(name)));
}

}  // namespace

bool valid_revision(std::string_view revision) {
  if (revision.empty() || revision.size() > kLongestName || revision.front() == '/' || revision.back() == '/') return false;
  if (revision.find("..") != std::string_view::npos || revision.find("//") != std::string_view::npos) return false;
  return std::all_of(revision.begin(), revision.end(),
                     [](char c) { return is_letter_or_digit(c) || std::string_view("_-./+").find(c) != std::string_view::npos; });
}

std::optional<HubName> parse_hub_name(std::string_view text) {
  if (text.size() > kLongestName) return std::nullopt;
  HubName name;
  if (const size_t at = text.find('@'); at != std::string_view::npos) {
    name.revision = std::string(text.substr(at + 1));
    if (!valid_revision(*name.revision)) return std::nullopt;
    text = text.substr(0, at);
  }
  const size_t slash = text.find('/');
  const bool named =
      slash == std::string_view::npos ? valid_part(text) : valid_part(text.substr(0, slash)) && valid_part(text.substr(slash + 1));
  if (!named) return std::nullopt;
  name.repository = std::string(text);
  return name;
}

fs::path hub_cache_folder() {
  if (const auto cache = path_of_variable("HF_HUB_CACHE")) return *cache;
  if (const auto home = path_of_variable("HF_HOME")) return *home / "hub";
  if (const auto cache = path_of_variable("XDG_CACHE_HOME")) return *cache / "huggingface" / "hub";
  return fs::path(home_folder()) / ".cache" / "huggingface" / "hub";
}

HubSnapshot find_in_hub_cache(const HubName& name, const fs::path& cache, const std::string& as_given) {
  std::string folder = "models--" + name.repository;
  if (const size_t slash = folder.find('/'); slash != std::string::npos) folder.replace(slash, 1, "--");
  const fs::path repository = cache / folder;
  std::error_code ignored;
  if (!fs::is_directory(repository, ignored)) {
    throw ModelError(fmt::format("model {} is not a folder and is not in the Hugging Face cache ({}). Get it with: {}", in_quotes(as_given),
                                 cache.string(), download_command(name)));
  }
  const std::string commit = commit_of(name, repository, as_given, cache);
  const fs::path snapshot = repository / "snapshots" / commit;
  if (!fs::is_directory(snapshot, ignored)) {
    throw ModelError(
        fmt::format("model {} is in the Hugging Face cache, but not its files: {} is absent (an unfinished download). Get them with: {}",
                    in_quotes(as_given), snapshot.string(), download_command(name)));
  }
  require_finished(name, repository, snapshot, as_given);
  return {snapshot, commit};
}

}  // namespace bolide
