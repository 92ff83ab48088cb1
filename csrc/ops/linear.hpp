// QLinear: y = x W^T (+ bias) (+ residual), W packed; and QGateUp, the gated half of a feed-forward layer.
#pragma once

#include "ops/product.hpp"

namespace fastslm::ops {

// Inputs: x float32 [..., K]; packed weights uint8 [bytes]; bias float32 [N]; residual float32 [..., N].
// Output: float32 [..., N].
class QLinear {
 public:
  static constexpr const char* kName = "QLinear";
  static constexpr Port kInputs[] = {{abi::Element::float32},
                                     {abi::Element::uint8},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional}};
  static constexpr Port kOutputs[] = {{abi::Element::float32}};

  explicit QLinear(const Setting& setting);
  void compute(const Context& context) const;

 private:
  const Kernels& kernels_;
  PackedWeight weight_;
};

// y = activation(x gate^T) * (x up^T). N counts the rows of both; the blocks of 32 rows alternate, gate
// first, each half padded to whole blocks. Attribute `activation`: 0 SiLU, 1 GELU by tanh, 2 GELU by erf, 3
// clamped (see Activation); `width`: rows of one half.
//
// Inputs: x float32 [..., K]; packed weights uint8 [bytes]; bias float32 [N], ordered like the blocks,
// optional. Output: float32 [..., width].
class QGateUp {
 public:
  static constexpr const char* kName = "QGateUp";
  static constexpr Port kInputs[] = {
      {abi::Element::float32}, {abi::Element::uint8}, {abi::Element::float32, abi::Presence::optional}};
  static constexpr Port kOutputs[] = {{abi::Element::float32}};

  explicit QGateUp(const Setting& setting);
  void compute(const Context& context) const;

 private:
  const Kernels& kernels_;
  PackedWeight weight_;
  Activation activation_;
  std::size_t width_;
};

}  // namespace fastslm::ops
