// QMoE: a feed-forward layer of many experts, of which each row of activations is sent to a few.
#pragma once

#include "ops/product.hpp"

namespace fastslm::ops {

// y = sum over the chosen experts of share * down(activation(x gate^T) * (x up^T)), with a bias for each
// product or for none.
//
// The router's scores are x router^T in float32, plus its bias. An expert's share is its part of the softmax
// over all scores, or over those of the chosen ones if `normalized`; of equal scores the first expert is
// chosen. Contributions are added in the order of the experts, so a row does not depend on its company. Only
// experts that some row has chosen are read, each of them once.
//
// Inputs: x float32 [..., K]; router float32 [experts, K]; `gate_up`, the matrices of all experts one after
// the other, each as QGateUp takes it, uint8 [experts * bytes]; `down` the same as QLinear takes it; and
// float32 biases, optional: of the router [experts], of gate and up as QGateUp takes it [experts, gate_up_N],
// of down [experts, K]. Output: float32 [..., K]. Attributes: `experts`, `chosen`, `normalized`, `activation`
// as in QGateUp, and those of one packed matrix with `gate_up_` or `down_` in front; `down_K` is the width of
// an expert.
class QMoE {
 public:
  static constexpr const char* kName = "QMoE";
  static constexpr Port kInputs[] = {{abi::Element::float32},
                                     {abi::Element::float32},
                                     {abi::Element::uint8},
                                     {abi::Element::uint8},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional}};
  static constexpr Port kOutputs[] = {{abi::Element::float32}};

  explicit QMoE(const Setting& setting);
  void compute(const Context& context) const;

 private:
  // Rows of activations by expert: expert e has those at [starts[e], starts[e + 1]), in their order.
  struct Routes {
    std::size_t count;          // rows times `chosen`
    const std::uint32_t* rows;  // [count]
    const float* shares;        // [count]
    const std::size_t* starts;  // [experts + 1]
    std::size_t most = 0;       // rows of the busiest expert
    std::size_t experts = 0;    // that have any
  };

  const float* router_scores(const Context& context, const float* x, std::size_t count) const;
  void choose(const float* scores, std::uint32_t* chosen, float* shares) const;
  Routes route(const Context& context, const float* x, std::size_t count) const;
  const float* gate(const Context& context, const float* x, const Routes& routes) const;
  void add_up(const Context& context, const float* inner, const Routes& routes, float* y,
              std::size_t count) const;

  const Kernels& kernels_;
  std::size_t experts_;
  std::size_t chosen_;
  bool normalized_;
  Activation activation_;
  PackedWeight gate_up_;
  PackedWeight down_;
};

}  // namespace fastslm::ops
