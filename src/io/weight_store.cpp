#include "io/weight_store.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/messages.h"
#include "io/lfs_pointer.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"
#include "io/shard_index.h"

namespace bolide {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr uintmax_t kMaxIndexBytes = 100'000'000;

class CheckpointStore final : public WeightSource {
 public:
  explicit CheckpointStore(fs::path folder) : folder_(std::move(folder)) {
    std::error_code ignored;
    if (fs::exists(folder_ / kSingleFile, ignored)) {
      open_single(kSingleFile);
    } else if (fs::exists(folder_ / kIndexFile, ignored)) {
      open_shards();
    } else {
      open_sole_file();
    }
  }

  TensorView require(const std::string& name, const Shape& shape) override {
    if (!tensors_.contains(name)) {
      asked_.insert(name);
      // Where a file is broken, its own problem says more than the list of all it might have held.
      if (!excused_.contains(name) && !all_excused_)
        problems_.push_back(fmt::format("{} absent, config.json says {}", in_quotes(name), shape_text(shape)));
      return {};
    }
    return optional(name, shape);
  }

  TensorView optional(const std::string& name, const Shape& shape) override {
    asked_.insert(name);
    const auto at = tensors_.find(name);
    if (at == tensors_.end()) return {};
    const SafetensorsEntry& entry = *at->second.entry;
    if (entry.shape != shape) {
      problems_.push_back(fmt::format("{} {}, config.json says {}", in_quotes(name), shape_text(entry.shape), shape_text(shape)));
      return {};
    }
    const std::optional<DType> dtype = weight_dtype(entry.dtype_name);
    if (!dtype) {
      problems_.push_back(fmt::format("{} is {}, supported are F32, F16 and BF16", in_quotes(name), in_quotes(entry.dtype_name)));
      return {};
    }
    const std::byte* data = at->second.file->bytes().data() + entry.begin;
    return {aligned(name, data, entry.end - entry.begin, *dtype), *dtype, shape};
  }

  bool contains(const std::string& name) const override { return tensors_.contains(name); }

  void throw_problems() const override {
    if (!problems_.empty()) throw ModelError(problems_text(problems_, folder_.string()));
  }

  std::vector<std::string> unread() const override {
    std::vector<std::string> names;
    for (const auto& [name, place] : tensors_) {
      if (!asked_.contains(name)) names.push_back(name);
    }
    return names;
  }

  std::string description() const override { return description_; }

 private:
  struct Place {
    const MappedFile* file;
    const SafetensorsEntry* entry;
  };
  struct Shard {
    std::unique_ptr<MappedFile> file;
    SafetensorsHeader header;
    bool broken = false;
  };

  // safetensors' own names only: "float" or "half" are no dtypes of that format.
  static std::optional<DType> weight_dtype(const std::string& name) {
    for (const DType t : {DType::f32, DType::f16, DType::bf16}) {
      if (name == dtype_safetensors_name(t)) return t;
    }
    return std::nullopt;
  }

  // The format does not promise alignment (a header of odd length moves all data): such a tensor is copied once.
  const void* aligned(const std::string& name, const std::byte* data, size_t bytes, DType dtype) {
    if (reinterpret_cast<uintptr_t>(data) % dtype_size(dtype) == 0) return data;
    std::unique_ptr<std::byte[]>& copy = copies_[name];
    if (!copy) {
      copy = std::make_unique<std::byte[]>(bytes);
      std::memcpy(copy.get(), data, bytes);
    }
    return copy.get();
  }

  Shard& open_shard(const std::string& name) {
    Shard& shard = shards_[name];
    const size_t before = problems_.size();
    std::error_code ignored;
    if (!fs::exists(folder_ / name, ignored)) {
      const char* hint = fs::is_symlink(folder_ / name, ignored) ? " (a link without its target: an unfinished download?)" : "";
      problems_.push_back(fmt::format("{} is missing{}", name, hint));
    } else {
      try {
        shard.file = std::make_unique<MappedFile>(folder_ / name);
        const std::span<const std::byte> bytes = shard.file->bytes();
        if (is_lfs_pointer({reinterpret_cast<const char*>(bytes.data()), bytes.size()})) {
          problems_.push_back(lfs_pointer_text(name, bytes.size(), folder_.string()));
        } else {
          shard.header = parse_safetensors(bytes, name, problems_);
        }
      } catch (const ModelError& error) {
        problems_.push_back(error.what());
      }
    }
    shard.broken = problems_.size() > before;
    return shard;
  }

  void open_single(const std::string& name) {
    const Shard& shard = open_shard(name);
    all_excused_ = shard.broken;
    for (const auto& [tensor, entry] : shard.header.tensors) tensors_.emplace(tensor, Place{shard.file.get(), &entry});
    description_ = name;
  }

  void open_shards() {
    std::error_code failed;
    const uintmax_t bytes = fs::file_size(folder_ / kIndexFile, failed);
    if (failed || bytes > kMaxIndexBytes) {
      all_excused_ = true;
      problems_.push_back(failed ? fmt::format("cannot read {}: {}", kIndexFile, failed.message())
                                 : fmt::format("{} has {} bytes, more than {}", kIndexFile, bytes, kMaxIndexBytes));
      return;
    }
    const std::string text = read_file(folder_ / kIndexFile, ExitCode::model);
    if (is_lfs_pointer(text)) {
      problems_.push_back(lfs_pointer_text(kIndexFile, text.size(), folder_.string()));
      all_excused_ = true;
      return;
    }
    const ShardIndex index = parse_shard_index(text, kIndexFile, problems_);
    all_excused_ = !problems_.empty();
    for (const auto& [tensor, name] : index) {
      const auto known = shards_.find(name);
      const Shard& shard = known == shards_.end() ? open_shard(name) : known->second;
      const auto at = shard.header.tensors.find(tensor);
      if (at != shard.header.tensors.end()) {
        tensors_.emplace(tensor, Place{shard.file.get(), &at->second});
        continue;
      }
      excused_.insert(tensor);
      if (!shard.broken) problems_.push_back(fmt::format("{} absent from {}, where {} says it is", in_quotes(tensor), name, kIndexFile));
    }
    description_ = fmt::format("{} shard{}", shards_.size(), shards_.size() == 1 ? "" : "s");
  }

  void open_sole_file() {
    std::vector<std::string> names;
    std::string other_weights;
    std::error_code failed;
    for (fs::directory_iterator it(folder_, failed), end; !failed && it != end; it.increment(failed)) {
      const fs::path& file = it->path();
      if (file.extension() == ".safetensors") names.push_back(file.filename().string());
      if (file.extension() == ".bin" || file.extension() == ".gguf" || file.extension() == ".pth") other_weights = file.filename().string();
    }
    if (names.size() == 1) return open_single(names.front());
    all_excused_ = true;
    if (failed) {
      problems_.push_back(fmt::format("cannot list the folder: {}", failed.message()));
    } else if (!names.empty()) {
      std::sort(names.begin(), names.end());
      problems_.push_back(fmt::format("{} *.safetensors files ({}, ...), but no {}", names.size(), in_quotes(names.front()), kIndexFile));
    } else if (!other_weights.empty()) {
      problems_.push_back(
          fmt::format("{} is not in safetensors format, and there is no *.safetensors file. Get the safetensors form of the model",
                      in_quotes(other_weights)));
    } else {
      problems_.push_back(fmt::format("no weights ({}, {} or one *.safetensors)", kSingleFile, kIndexFile));
    }
  }

  fs::path folder_;
  std::string description_ = "no weights";
  std::map<std::string, Shard> shards_;  // nodes are stable: Place points into them
  std::map<std::string, Place> tensors_;
  std::map<std::string, std::unique_ptr<std::byte[]>> copies_;
  std::set<std::string> asked_;
  std::set<std::string> excused_;  // absent for a reason already among the problems
  bool all_excused_ = false;
  std::vector<std::string> problems_;
};

}  // namespace

std::unique_ptr<WeightSource> open_weight_store(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored)) {
    throw ModelError(fmt::format("{} is not a folder. A model is a folder with config.json and *.safetensors", folder.string()));
  }
  return std::make_unique<CheckpointStore>(folder);
}

}  // namespace bolide
