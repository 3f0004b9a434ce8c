// --model: from what a user writes to a folder on this machine.
#include <filesystem>

#include "cli/common_options.h"
#include "cli/log.h"
#include "cli/values.h"
#include "core/messages.h"
#include "io/hub_cache.h"

namespace bolide {
namespace {

namespace fs = std::filesystem;

constexpr const char* kQuickstartModel = "models-local/smollm2-135m-instruct";

std::string folder_of(const std::string& asked, const std::optional<std::string>& revision) {
  if (asked.empty()) throw UsageError("--model is empty. Give a checkpoint folder, or a name such as Org/Name");
  std::error_code ignored;
  if (fs::is_directory(asked, ignored)) {
    if (revision)
      throw UsageError(fmt::format("--revision is for models by name, and {} is a folder: leave --revision out", in_quotes(asked)));
    return asked;
  }
  std::optional<HubName> name = parse_hub_name(asked);
  if (!name) {
    throw ModelError(fmt::format(
        "model {} is not a folder, nor a name such as Org/Name. Get one with: hf download Org/Name --local-dir DIR", in_quotes(asked)));
  }
  if (revision) {
    if (!valid_revision(*revision)) throw UsageError(fmt::format("--revision {} is no branch, tag or commit", in_quotes(*revision)));
    if (name->revision && *name->revision != *revision)
      throw UsageError(fmt::format("--model {} and --revision {} name two revisions: give one", in_quotes(asked), in_quotes(*revision)));
    name->revision = revision;
  }
  const HubSnapshot snapshot = find_in_hub_cache(*name, hub_cache_folder(), asked);
  log_info("model {}: {}", asked, snapshot.folder.string());
  return snapshot.folder.string();
}

}  // namespace

std::optional<std::string> quickstart_model() {
  std::error_code failed;
  const auto usable = [&](const fs::path& folder) { return fs::is_regular_file(folder / "config.json", failed); };
  if (usable(kQuickstartModel)) return kQuickstartModel;
  const fs::path program = fs::read_symlink("/proc/self/exe", failed);
  if (failed) return std::nullopt;
  const fs::path folder = program.parent_path().parent_path().parent_path().parent_path() / kQuickstartModel;
  return usable(folder) ? std::optional(folder.string()) : std::nullopt;
}

Flag ModelOptions::add_model_to(Flags& flags) {
  const Flag model = flags.value("-m,--model,--model-path", asked);
  flags.value("--revision", revision);
  flags.flag("--offline", offline);
  return model;
}

void ModelOptions::add_folder_to(Flags& flags) { add_model_to(flags); }

void ModelOptions::add_to(Flags& flags) {
  const Flag model = add_model_to(flags);
  model.excludes(flags.value("--random-weights", random_shape));
  flags.value("--random-dtype", random_dtype);
  flags.value("--random-seed", random_seed);
}

void ModelOptions::take_positional(const std::string& argument, const Flags& flags) {
  if (argument.empty()) return;
  if (flags.given("--model") || flags.given("--random-weights"))
    throw UsageError("the model is given as an argument and by a flag: choose one");
  asked = argument;
  random_shape.clear();
}

void ModelOptions::resolve() {
  if (random()) {
    source();  // for what it finds wrong with the flags
    if (revision) throw UsageError("--revision is for models by name, and --random-weights takes none: leave --revision out");
    return;
  }
  if (asked) {
    folder = folder_of(*asked, revision);
    return;
  }
  if (revision) throw UsageError("--revision needs a model by name: add --model Org/Name");
  const std::optional<std::string> found = quickstart_model();
  if (!found) {
    throw UsageError(
        "no model: give a checkpoint folder or a name with --model DIR|Org/Name, or a shape with --random-weights SHAPE.json. "
        "scripts/quickstart.sh gets a small model, which is used when none is given");
  }
  folder = *found;
  log_info("model {} (no --model given: the quickstart's)", folder);
}

ModelSource ModelOptions::source() const {
  BOLIDE_CHECK(random() || !folder.empty());
  ModelSource source;
  source.folder = folder;
  source.random_shape = random_shape;
  const auto dtype = parse_dtype_flag("--random-dtype", random_dtype);
  if (!dtype) throw UsageError("--random-dtype 'auto' is not bfloat16, float16 or float32");
  source.random_dtype = *dtype;
  source.random_seed = random_seed;
  return source;
}

}  // namespace bolide
