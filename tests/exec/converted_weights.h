// A model's weights copied into another dtype, rounded to nearest.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "model/weights.h"

namespace bolide::test {

class ConvertedWeights {
 public:
  ConvertedWeights(const ModelWeights& from, DType dtype) : dtype_(dtype), weights_(from) {
    const bool tied = from.head.data == from.embed.data;
    convert(weights_.embed);
    convert(weights_.final_norm);
    if (tied) {
      weights_.head = weights_.embed;
    } else {
      convert(weights_.head);
    }
    for (LayerWeights& layer : weights_.layers) {
      for (Linear* linear : {&layer.q, &layer.k, &layer.v, &layer.o, &layer.gate, &layer.up, &layer.down}) {
        convert(linear->weight);
        convert(linear->bias);
      }
      for (TensorView* view : {&layer.input_norm, &layer.post_norm, &layer.q_norm, &layer.k_norm}) convert(*view);
    }
  }

  const ModelWeights& weights() const { return weights_; }

 private:
  void convert(TensorView& view) {
    if (!view) return;
    const auto n = static_cast<size_t>(view.elements());
    auto& bytes = storage_.emplace_back(std::make_unique<std::byte[]>(n * dtype_size(dtype_)));
    for (size_t i = 0; i < n; ++i) {
      const float value = load_element(view.data, view.dtype, i);
      if (dtype_ == DType::f32) {
        std::memcpy(bytes.get() + 4 * i, &value, 4);
      } else {
        const uint16_t narrow = dtype_ == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value);
        std::memcpy(bytes.get() + 2 * i, &narrow, 2);
      }
    }
    view = {bytes.get(), dtype_, view.shape};
  }

  DType dtype_;
  ModelWeights weights_;
  std::vector<std::unique_ptr<std::byte[]>> storage_;
};

}  // namespace bolide::test
