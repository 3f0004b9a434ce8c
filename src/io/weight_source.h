// Where a model's tensors come from: mapped checkpoint files or a random generator.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"

namespace bolide {

class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // The tensor, or an empty view after noting what is wrong (absent, other shape, dtype that is not F32/F16/BF16).
  virtual TensorView require(const std::string& name, const Shape& shape) = 0;
  // As require, but absence is fine.
  virtual TensorView optional(const std::string& name, const Shape& shape) = 0;
  // Random sources contain what has been required so far.
  virtual bool contains(const std::string& name) const = 0;

  // Throws one ModelError that lists every problem noted so far; does nothing if there is none.
  virtual void throw_problems() const = 0;
  // Names that nobody asked for, sorted; the loader reports them as a warning.
  virtual std::vector<std::string> unread() const = 0;
  // "model.safetensors", "3 shards", "random weights, seed 0".
  virtual std::string description() const = 0;
};

}  // namespace bolide
