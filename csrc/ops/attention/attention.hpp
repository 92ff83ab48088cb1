// Attention: grouped queries with rotary positions over a KV cache that is appended to in place.
#pragma once

#include "ops/attention/step.hpp"

namespace fastslm::ops {

// Inputs
//   0, query   float32 [tokens, heads * head_dim], or query, key and value side by side (then no 1 and 2)
//   1, key     float32 [tokens, kv_heads * head_dim]
//   2, value   the same
//   3, 4       past keys and values, float32 [batch, kv_heads, capacity, head_dim]
//   5          int32 [batch]: number of valid positions after this step, minus 1
//   6, 7       cosines and sines, float32 [positions, rotary_dim / 2]; absent without rotary positions
//
// Outputs
//   0         float32 [tokens, heads * head_dim]
//   1, 2      keys and values after this step; bind them to the memory of the inputs and nothing is copied
//
// tokens = batch * sequence, as one or two dimensions. With more positions than tokens in a row the rest is
// the past; with fewer the row is padded at its end, and its padding gives zeros.
//
// Attributes: heads, kv_heads, head_dim; window (most positions a token sees, itself included; 0: all), scale
// (0: 1 / sqrt(head_dim)), soft_cap (0: none), interleaved (1: neighbours are a rotary pair, 0: halves are).
class Attention {
 public:
  static constexpr const char* kName = "Attention";
  static constexpr Port kInputs[] = {{abi::Element::float32},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32},
                                     {abi::Element::float32},
                                     {abi::Element::int32},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional}};
  static constexpr Port kOutputs[] = {
      {abi::Element::float32}, {abi::Element::float32}, {abi::Element::float32}};

  explicit Attention(const Setting& setting);
  void compute(const Context& context) const;

 private:
  struct Inputs;  // of one call, checked

  Inputs read(const Context& context) const;
  std::int64_t rotary_positions(const Inputs& inputs) const;
  void append(const Context& context, const AttentionStep& step, const Inputs& inputs) const;
  void rotate(const float* from, std::size_t position, const Inputs& inputs, float* to) const;

  const Kernels& kernels_;
  AttentionShape shape_;
  bool interleaved_;
};

}  // namespace fastslm::ops
