// ShortConv: a gated causal convolution over the last few positions, with a cache that is appended to in
// place.
#pragma once

#include "ops/attention/cache_format.hpp"
#include "ops/runtime/define.hpp"

namespace fastslm::ops {

// y[t] = c[t] * (bias + sum over j of taps[j] * z[t - kernel + 1 + j]), z[t] = b[t] * x[t], channel by
// channel; z is zero before the first position. Every z is kept, as a cache keeps a key, so that a sequence
// can be cut anywhere and gone on with; and every z is read as the cache has it, so that the pieces in which
// a sequence comes make no difference.
//
// Inputs: float32 [tokens, 3 * width], b, c and x side by side; cache, bytes [batch, heads, capacity, row] as
// in Attention; seqlens_k int32 [batch] as there; taps float32 [kernel, width]; bias float32 [width],
// optional. Outputs: float32 [tokens, width]; the cache after this step, in place where it is bound so.
// Attributes `heads` and `head_dim`: how the width lies in the cache. Padding gives zeros.
class ShortConv {
 public:
  static constexpr const char* kName = "ShortConv";
  static constexpr Port kInputs[] = {{abi::Element::float32},
                                     {abi::Element::uint8},
                                     {abi::Element::int32},
                                     {abi::Element::float32},
                                     {abi::Element::float32, abi::Presence::optional}};
  static constexpr Port kOutputs[] = {{abi::Element::float32}, {abi::Element::uint8}};

  explicit ShortConv(const Setting& setting);
  void compute(const Context& context) const;

 private:
  struct Step;  // one call, checked

  std::size_t width() const { return heads_ * head_dim_; }
  void check(const Context& context, const Tensor& gates, const Tensor& taps) const;
  Step read(const Context& context) const;
  void convolve(const Step& step, std::size_t b, std::size_t head) const;

  const Kernels& kernels_;
  std::size_t heads_;
  std::size_t head_dim_;
};

}  // namespace fastslm::ops
