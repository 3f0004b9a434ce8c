#include "exec/open_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <system_error>

#include "core/error.h"
#include "core/host_memory.h"
#include "core/human.h"
#include "core/messages.h"
#include "io/weight_store.h"
#include "models/architecture.h"

namespace bolide {
namespace {

// "Org/Name" as a hub would know it; a path on this machine is not.
bool looks_like_hub_name(const std::string& name) {
  const size_t slash = name.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < name.size() && name.find('/', slash + 1) == std::string::npos &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./") == std::string::npos &&
         name[0] != '.';
}

void require_folder(const std::filesystem::path& folder) {
  std::error_code error;
  if (std::filesystem::is_directory(folder, error)) return;
  const std::string name = folder.string();
  const std::string hub_name = looks_like_hub_name(name) ? name : "Org/Name";
  throw ModelError(fmt::format("model {} is not a folder. Get one with: hf download {} --local-dir DIR", in_quotes(name), hub_name));
}

std::string unread_note(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  const auto shown = std::vector<std::string>(names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min(names.size(), kShown)));
  const std::string more =
      names.size() > kShown ? fmt::format(" and {} more", with_commas(static_cast<int64_t>(names.size() - kShown))) : "";
  return fmt::format("{} of the checkpoint {} not used: {}{}", names.size() == 1 ? "1 tensor" : fmt::format("{} tensors", names.size()),
                     names.size() == 1 ? "is" : "are", fmt::join(shown, ", "), more);
}

// Random weights lie in the machine's memory, whatever the device: what is too large is refused before gigabytes are drawn.
void require_memory_for(const ModelConfig& config, DType dtype) {
  const auto bytes = static_cast<size_t>(config.parameters()) * dtype_size(dtype);
  const size_t available = available_host_memory();
  if (bytes <= available) return;
  throw MemoryError(
      fmt::format("random weights do not fit: {} parameters in {} take {}, and {} are free in this machine. Use a smaller "
                  "shape{}",
                  with_commas(config.parameters()), dtype_name(dtype), human_bytes(bytes), human_bytes(available),
                  dtype == DType::f32 && bytes / 2 <= available ? ", or --random-dtype bfloat16" : ""));
}

}  // namespace

OpenModel open_model(const ModelSource& source) {
  const bool random = !source.random_shape.empty();
  OpenModel model;
  if (random) {
    model.config = load_model_config(source.random_shape);
    require_memory_for(model.config, source.random_dtype);
    model.source = make_random_weights(source.random_dtype, source.random_seed);
  } else {
    require_folder(source.folder);
    model.config = load_model_config(source.folder / "config.json");
    model.source = open_weight_store(source.folder);
  }
  const bool tied_by_config = model.config.tied_head;
  model.weights = bind_weights(model.config, *model.source);
  BOLIDE_CHECK(!model.weights.layers.empty());
  model.weights_dtype = model.weights.layers.front().q.weight.dtype;
  if (random) model.notes.push_back(model.source->description());
  if (model.config.tied_head && !tied_by_config) {
    model.notes.push_back(fmt::format("{} absent: the embedding matrix serves as head", model.config.names.head));
  }
  const std::vector<std::string> unread = model.source->unread();
  if (!unread.empty()) model.notes.push_back(unread_note(unread));
  return model;
}

}  // namespace bolide
