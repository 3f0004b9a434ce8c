#include "io/shard_index.h"

#include <fmt/format.h>

#include <set>

#include "core/messages.h"
#include "io/json_events.h"

namespace bolide {
namespace {

// Keeps the weight_map of the outermost object and skips everything else, at any depth.
class IndexEvents final : public JsonEvents {
 public:
  explicit IndexEvents(ShardIndex& index) : index_(index) {}

  bool has_weight_map() const { return has_weight_map_; }

  bool null() override { return scalar("null"); }
  bool boolean(bool) override { return scalar("a boolean"); }
  bool number_integer(number_integer_t) override { return scalar("a number"); }
  bool number_unsigned(number_unsigned_t) override { return scalar("a number"); }
  bool number_float(number_float_t, const string_t&) override { return scalar("a number"); }
  bool string(string_t& text) override {
    if (!in_map_) return scalar("a string");
    const auto [at, inserted] = index_.try_emplace(std::move(name_), std::move(text));
    if (!inserted) return fail(fmt::format("names {} twice", in_quotes(at->first)));
    return true;
  }
  bool key(string_t& text) override {
    if (in_map_) {
      name_ = std::move(text);
    } else if (depth_ == 1) {
      at_map_ = text == "weight_map";
      if (at_map_ && has_weight_map_) return fail("has two weight_map entries");
    }
    return true;
  }
  bool start_object(size_t) override {
    if (in_map_) return unexpected("an object");
    if (at_map_) {
      at_map_ = false;
      in_map_ = has_weight_map_ = true;
    }
    ++depth_;
    return true;
  }
  bool end_object() override {
    in_map_ = false;
    --depth_;
    return true;
  }
  bool start_array(size_t) override {
    if (in_map_ || at_map_ || depth_ == 0) return unexpected("an array");
    ++depth_;
    return true;
  }
  bool end_array() override {
    --depth_;
    return true;
  }

 private:
  bool scalar(std::string_view what) {
    if (in_map_ || at_map_ || depth_ == 0) return unexpected(what);
    return true;
  }
  bool unexpected(std::string_view what) override {
    if (depth_ == 0) return fail(fmt::format("is {}, not an object", what));
    if (in_map_) return fail(fmt::format("has {} where {} needs a file name", what, in_quotes(name_)));
    return fail(fmt::format("has {} where weight_map needs an object", what));
  }

  ShardIndex& index_;
  size_t depth_ = 0;
  bool at_map_ = false;  // the next value is the weight_map's
  bool in_map_ = false;
  bool has_weight_map_ = false;
  std::string name_;
};

bool is_plain_shard_name(std::string_view name) {
  return name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos && name.ends_with(".safetensors");
}

}  // namespace

ShardIndex parse_shard_index(std::string_view text, const std::string& file_name, std::vector<std::string>& problems) {
  ShardIndex index;
  IndexEvents events(index);
  if (!parse_json_events(text, events)) {
    problems.push_back(fmt::format("{} {}", file_name, events.error()));
    return {};
  }
  if (!events.has_weight_map()) {
    problems.push_back(fmt::format("{} has no weight_map", file_name));
    return {};
  }
  std::set<std::string> refused;
  for (auto it = index.begin(); it != index.end();) {
    if (is_plain_shard_name(it->second)) {
      ++it;
      continue;
    }
    if (refused.insert(it->second).second) {
      problems.push_back(
          fmt::format("{} names the file {}, which is not the plain name of a .safetensors file", file_name, in_quotes(it->second)));
    }
    it = index.erase(it);
  }
  return index;
}

}  // namespace bolide
