#include <cstdlib>
#include <optional>
#include <vector>

#include "catch.h"
#include "caught.h"
#include "checkpoint_files.h"
#include "io/hub_cache.h"

using namespace bolide;
namespace fs = std::filesystem;

namespace {

const std::string kCommit = "0123456789abcdef0123456789abcdef01234567";
const std::string kOther = "76543210fedcba9876543210fedcba9876543210";

// A cache as huggingface_hub lays it out: files are blobs, snapshots hold relative links.
class Cache {
 public:
  explicit Cache(const std::string& repository = "models--Org--Name") : repository_(folder_.path() / repository) {
    for (const char* name : {"blobs", "refs", "snapshots"}) fs::create_directories(repository_ / name);
  }
  void ref(const std::string& name, const std::string& content) const {
    fs::create_directories((repository_ / "refs" / name).parent_path());
    std::ofstream(repository_ / "refs" / name) << content;
  }
  void blob(const std::string& name, const std::string& content = "x") const { std::ofstream(repository_ / "blobs" / name) << content; }
  void link(const std::string& commit, const std::string& file, const std::string& blob) const {
    fs::create_directories(repository_ / "snapshots" / commit);
    fs::create_symlink("../../blobs/" + blob, repository_ / "snapshots" / commit / file);
  }
  void file(const std::string& commit, const std::string& file, const std::string& content) const {
    blob(commit.substr(0, 4) + file, content);
    link(commit, file, commit.substr(0, 4) + file);
  }
  void model(const std::string& commit) const {
    file(commit, "config.json", "{}");
    file(commit, "model.safetensors", "x");
  }
  fs::path path() const { return folder_.path(); }
  HubSnapshot find(const std::string& text) const { return find_in_hub_cache(*parse_hub_name(text), path(), text); }
  Caught problem(const std::string& text) const {
    return caught([&] { find(text); });
  }

 private:
  TemporaryFolder folder_;
  fs::path repository_;
};

class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old;
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  ~Variable() { old_ ? ::setenv(name_, old_->c_str(), 1) : ::unsetenv(name_); }

 private:
  const char* name_;
  std::optional<std::string> old_;
};

}  // namespace

TEST_CASE("names of models are told from paths") {
  CHECK(parse_hub_name("Qwen/Qwen3-0.6B")->repository == "Qwen/Qwen3-0.6B");
  CHECK_FALSE(parse_hub_name("Qwen/Qwen3-0.6B")->revision);
  CHECK(parse_hub_name("gpt2")->repository == "gpt2");
  CHECK(parse_hub_name("Org/Name@refs/pr/1")->revision == "refs/pr/1");
  CHECK(parse_hub_name("Org/Name@" + kCommit)->revision == kCommit);
  for (const std::string text : {"", "/", "./x", "../x/y", "/models/x", "a/b/c", "a/", "/a", "a b/c", "a/..", "Org/Name@", "Org/Name@../x",
                                 "Org/Name@/etc", "Org/a--b", "Org/-x", "Org/x\n", "~/models"})
    CHECK_FALSE(parse_hub_name(text));
  CHECK_FALSE(parse_hub_name("Org/" + std::string(300, 'a')));
}

TEST_CASE("the cache's folder follows the environment in its order") {
  const Variable a("HF_HUB_CACHE", "/a"), b("HF_HOME", "/b"), c("XDG_CACHE_HOME", "/c"), home("HOME", "/h");
  CHECK(hub_cache_folder() == "/a");
  const Variable no_a("HF_HUB_CACHE", "");
  CHECK(hub_cache_folder() == "/b/hub");
  const Variable no_b("HF_HOME", nullptr);
  CHECK(hub_cache_folder() == "/c/huggingface/hub");
  const Variable no_c("XDG_CACHE_HOME", nullptr);
  CHECK(hub_cache_folder() == "/h/.cache/huggingface/hub");
  const Variable tilde("HF_HOME", "~/elsewhere");
  CHECK(hub_cache_folder() == "/h/elsewhere/hub");
}

TEST_CASE("a branch, a tag and a commit lead to their snapshot") {
  const Cache cache;
  cache.ref("main", kCommit + "\n");
  cache.ref("refs/pr/1", kOther);
  cache.model(kCommit);
  cache.model(kOther);
  CHECK(cache.find("Org/Name").commit == kCommit);
  CHECK(cache.find("Org/Name").folder == cache.path() / "models--Org--Name/snapshots" / kCommit);
  CHECK(cache.find("Org/Name@main").commit == kCommit);
  CHECK(cache.find("Org/Name@refs/pr/1").commit == kOther);
  CHECK(cache.find("Org/Name@" + kOther).commit == kOther);
  CHECK(Cache("models--gpt2").problem("gpt2").says("not its revision 'main' (there: nothing)"));
}

TEST_CASE("a model that is not in the cache says how to get it") {
  const Cache cache;
  const Caught missing = cache.problem("Qwen/Qwen3-0.6B");
  CHECK(missing.code == ExitCode::model);
  CHECK(missing.text == fmt::format("model 'Qwen/Qwen3-0.6B' is not a folder and is not in the Hugging Face cache ({}). Get it with: "
                                    "hf download Qwen/Qwen3-0.6B",
                                    cache.path().string()));
  CHECK(cache.problem("Qwen/Qwen3-0.6B@v2").says("Get it with: hf download Qwen/Qwen3-0.6B --revision v2"));
}

TEST_CASE("a revision that is not in the cache is named, with those that are") {
  const Cache cache;
  cache.ref("main", kCommit);
  cache.model(kCommit);
  const Caught other = cache.problem("Org/Name@v2");
  CHECK(other.code == ExitCode::model);
  CHECK(other.says("not its revision 'v2' (there: main). Get it with: hf download Org/Name --revision v2"));
  CHECK(cache.problem("Org/Name@" + kOther).says(kOther + " is absent"));
  const Cache by_commit;  // downloaded with --revision COMMIT: no ref
  by_commit.model(kCommit);
  CHECK(by_commit.problem("Org/Name").says("(there: " + kCommit + ")"));
  const Cache damaged;
  damaged.ref("main", "../../etc");
  CHECK(damaged.problem("Org/Name").says("which is no commit"));
  const Cache empty;
  empty.ref("main", kCommit);
  CHECK(empty.problem("Org/Name").says("is absent (an unfinished download). Get them with: hf download Org/Name"));
}

TEST_CASE("an unfinished download is told by its files") {
  const Cache dangling;
  dangling.ref("main", kCommit);
  dangling.model(kCommit);
  dangling.link(kCommit, "tokenizer.json", "feed");
  dangling.link(kCommit, "generation_config.json", "beef");
  const Caught links = dangling.problem("Org/Name");
  CHECK(links.code == ExitCode::model);
  CHECK(links.says("the download of model 'Org/Name' into "));
  CHECK(links.says("is not finished: generation_config.json, tokenizer.json are missing. Finish it with: hf download Org/Name"));

  const Cache partial;
  partial.ref("main", kCommit);
  partial.file(kCommit, "config.json", "{}");
  partial.blob("feed.incomplete");
  CHECK(partial.problem("Org/Name").says("not finished: *.safetensors is missing; unfinished: blobs/feed.incomplete. Finish it"));
  partial.file(kCommit, "model.safetensors.index.json",
               R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})");
  partial.file(kCommit, "model-00001-of-00002.safetensors", "x");
  CHECK(partial.problem("Org/Name").says("not finished: model-00002-of-00002.safetensors is missing; unfinished: blobs/feed.incomplete"));
  partial.file(kCommit, "model-00002-of-00002.safetensors", "x");
  CHECK(partial.find("Org/Name").commit == kCommit);  // what is incomplete is a file that no model needs
}

TEST_CASE("snapshots of copies instead of links are as good") {
  const Cache cache;
  cache.ref("main", kCommit);
  const fs::path snapshot = cache.path() / "models--Org--Name/snapshots" / kCommit;
  fs::create_directories(snapshot);
  std::ofstream(snapshot / "config.json") << "{}";
  CHECK(cache.find("Org/Name").folder == snapshot);
}
