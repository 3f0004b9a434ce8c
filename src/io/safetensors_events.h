// The safetensors header as a stream of JSON events, checked against the format's grammar.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "core/messages.h"
#include "io/json_events.h"
#include "io/safetensors.h"

namespace bolide {

// {"__metadata__": {string: string}, name: {"dtype": string, "shape": [n...], "data_offsets": [begin, end]}}; nothing else.
// Offsets in the entries stay those of the header, relative to the data.
class HeaderEvents final : public JsonEvents {
 public:
  explicit HeaderEvents(SafetensorsHeader& header) : header_(header) {}

  bool start_object(size_t) override {
    switch (state_) {
      case State::start:
        state_ = State::top;
        return true;
      case State::tensor_value:
        state_ = State::tensor;
        return true;
      case State::metadata_value:
        state_ = State::metadata;
        return true;
      default:
        return unexpected("an object");
    }
  }
  bool end_object() override {
    switch (state_) {
      case State::top:
        state_ = State::done;
        return true;
      case State::metadata:
        state_ = State::top;
        return true;
      case State::tensor:
        if (!has_dtype_ || !has_shape_ || offsets_ != 2) {
          return fail(fmt::format("gives {} no {}", in_quotes(name_), !has_dtype_ ? "dtype" : !has_shape_ ? "shape" : "data_offsets"));
        }
        state_ = State::top;
        return true;
      default:
        return unexpected("the end of an object");
    }
  }
  bool key(string_t& text) override {
    switch (state_) {
      case State::top:
        return begin_entry(text);
      case State::metadata:
        return begin_metadata(text);
      case State::tensor:
        return begin_field(text);
      default:
        return unexpected("a key");
    }
  }
  bool string(string_t& text) override {
    if (state_ == State::dtype) {
      entry_->dtype_name = std::move(text);
      state_ = State::tensor;
      return true;
    }
    if (state_ == State::metadata_string) {
      *metadata_ = std::move(text);
      state_ = State::metadata;
      return true;
    }
    return unexpected("a string");
  }
  bool start_array(size_t) override {
    if (state_ == State::shape_value) {
      state_ = State::shape;
    } else if (state_ == State::offsets_value) {
      state_ = State::offsets;
    } else {
      return unexpected("an array");
    }
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (state_ == State::shape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        return fail(fmt::format("gives {} a shape that overflows", in_quotes(name_)));
      if (entry_->shape.size() == kMaxDimensions)
        return fail(fmt::format("gives {} more than {} dimensions", in_quotes(name_), kMaxDimensions));
      entry_->shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ == State::offsets) {
      if (offsets_ == 2) return fail(fmt::format("gives {} more than two data_offsets", in_quotes(name_)));
      (offsets_ == 0 ? entry_->begin : entry_->end) = value;
      ++offsets_;
      return true;
    }
    return unexpected("a number");
  }
  bool end_array() override {
    if (state_ == State::offsets && offsets_ != 2)
      return fail(fmt::format("gives {} {} data_offsets, not two", in_quotes(name_), offsets_));
    if (state_ != State::shape && state_ != State::offsets) return unexpected("the end of an array");
    state_ = State::tensor;
    return true;
  }

 private:
  static constexpr size_t kMaxDimensions = 16;  // no checkpoint has more; keeps a hostile shape small

  enum class State {
    start,
    top,
    tensor_value,
    tensor,
    dtype,
    shape_value,
    shape,
    offsets_value,
    offsets,
    metadata_value,
    metadata,
    metadata_string,
    done,
  };

  bool unexpected(std::string_view what) override {
    if (state_ == State::start) return fail(fmt::format("is {}, not an object", what));
    if (state_ == State::metadata_value || state_ == State::metadata_string)
      return fail("has a __metadata__ that is not an object of strings");
    return fail(fmt::format("has {} where {} needs {}", what, name_.empty() ? "it" : in_quotes(name_), wanted()));
  }
  std::string_view wanted() const {
    switch (state_) {
      case State::dtype:
        return "a dtype name";
      case State::shape_value:
      case State::shape:
        return "a shape (a list of non-negative integers)";
      case State::offsets_value:
      case State::offsets:
        return "data_offsets (a list of two non-negative integers)";
      default:
        return "an object with dtype, shape and data_offsets";
    }
  }
  bool begin_entry(string_t& text) {
    if (text == "__metadata__") {
      if (has_metadata_) return fail("has two __metadata__ entries");
      has_metadata_ = true;
      state_ = State::metadata_value;
      return true;
    }
    name_ = std::move(text);
    const auto [at, inserted] = header_.tensors.try_emplace(name_);
    if (!inserted) return fail(fmt::format("names {} twice", in_quotes(name_)));
    entry_ = &at->second;
    has_dtype_ = has_shape_ = false;
    offsets_ = 0;
    state_ = State::tensor_value;
    return true;
  }
  bool begin_metadata(string_t& text) {
    const auto [at, inserted] = header_.metadata.try_emplace(std::move(text));
    if (!inserted) return fail(fmt::format("has the metadata key {} twice", in_quotes(at->first)));
    metadata_ = &at->second;
    state_ = State::metadata_string;
    return true;
  }
  bool begin_field(const string_t& text) {
    if (text == "dtype" && !has_dtype_) {
      has_dtype_ = true;
      state_ = State::dtype;
    } else if (text == "shape" && !has_shape_) {
      has_shape_ = true;
      state_ = State::shape_value;
    } else if (text == "data_offsets" && offsets_ == 0) {
      state_ = State::offsets_value;
    } else {
      return fail(fmt::format("gives {} a second or unknown key {}", in_quotes(name_), in_quotes(text)));
    }
    return true;
  }

  SafetensorsHeader& header_;
  State state_ = State::start;
  std::string name_;
  SafetensorsEntry* entry_ = nullptr;
  std::string* metadata_ = nullptr;
  bool has_dtype_ = false, has_shape_ = false, has_metadata_ = false;
  int offsets_ = 0;
};

}  // namespace bolide
