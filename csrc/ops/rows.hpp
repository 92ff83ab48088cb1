// Operators that work on single rows: QEmbedding and SkipRMSNorm.
#pragma once

#include "ops/product.hpp"

namespace fastslm::ops {

// Rows of a packed matrix by number, so that a tied output head needs no second copy.
//
// Inputs: ids int64 [...]; packed weights uint8 [bytes]. Output: float32 [..., K].
class QEmbedding {
 public:
  static constexpr const char* kName = "QEmbedding";
  static constexpr Port kInputs[] = {{abi::Element::int64}, {abi::Element::uint8}};
  static constexpr Port kOutputs[] = {{abi::Element::float32}};

  explicit QEmbedding(const Setting& setting) : weight_(setting.info, 1) {}
  void compute(const Context& context) const;

 private:
  PackedWeight weight_;
};

// sum = x + residual, y = sum * weight / sqrt(mean(sum * sum) + epsilon).
//
// Inputs: x float32 [..., width]; weight float32 [width]; residual float32 like x, optional.
// Outputs: y; sum, optional. Attribute `epsilon`.
class SkipRmsNorm {
 public:
  static constexpr const char* kName = "SkipRMSNorm";
  static constexpr Port kInputs[] = {
      {abi::Element::float32}, {abi::Element::float32}, {abi::Element::float32, abi::Presence::optional}};
  static constexpr Port kOutputs[] = {{abi::Element::float32},
                                      {abi::Element::float32, abi::Presence::optional}};

  explicit SkipRmsNorm(const Setting& setting);
  void compute(const Context& context) const;

 private:
  const Kernels& kernels_;
  float epsilon_;
};

}  // namespace fastslm::ops
