// Attention: grouped queries with rotary positions over a KV cache that is appended to in place.
#pragma once

#include "ops/attention/step.hpp"

namespace fastslm::ops {

// Inputs
//   0, query   float32 [tokens, heads * head_dim], or query, key and value side by side (then no 1 and 2)
//   1, key     float32 [tokens, kv_heads * head_dim]
//   2, value   the same
//   3, 4       past keys and values, bytes [batch, kv_heads, capacity, row]; a row is head_dim numbers of
//              float32 or float16, or of int16 with a float32 scale at the end, or of int8 with a float16
//              scale for every 32: its size tells which
//   5          int32 [batch]: number of valid positions after this step, minus 1
//   6, 7       cosines and sines, float32 [positions, rotary_dim / 2]; absent without rotary positions
//   8, 9       weights of the norms of query and key before they are turned, float32 [head_dim]; optional
//   10         sinks, float32 [heads]: scores that take part in the softmax and have no value; optional
//   11         slopes, float32 [heads]: linear biases (Press et al. 2022), times key less query; optional
//
// Outputs
//   0         float32 [tokens, heads * head_dim]
//   1, 2      keys and values after this step; bind them to the memory of the inputs and nothing is copied
//
// tokens = batch * sequence, as one or two dimensions. With more positions than tokens in a row the rest is
// the past; with fewer the row is padded at its end, and its padding gives zeros.
//
// Attributes: heads, kv_heads, head_dim; window (most positions a token sees, itself included; 0: all), scale
// (0: 1 / sqrt(head_dim)), soft_cap (0: none), epsilon (of the norms), interleaved (1: neighbours are a
// rotary pair, 0: halves are).
class Attention {
 public:
  static constexpr const char* kName = "Attention";
  static constexpr Port kInputs[] = {{abi::Element::float32},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::uint8},
                                     {abi::Element::uint8},
                                     {abi::Element::int32},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional},
                                     {abi::Element::float32, abi::Presence::optional}};
  static constexpr Port kOutputs[] = {{abi::Element::float32}, {abi::Element::uint8}, {abi::Element::uint8}};

  explicit Attention(const Setting& setting);
  void compute(const Context& context) const;

 private:
  struct Inputs;  // of one call, checked

  Inputs read(const Context& context) const;
  std::int64_t rotary_positions(const Inputs& inputs) const;
  void check_sides(const Inputs& inputs) const;
  CacheFormat check_cache(const Inputs& inputs) const;
  void append(const Context& context, const AttentionStep& step, const Inputs& inputs) const;
  void append_token(const AttentionStep& step, const Inputs& inputs, std::size_t token) const;
  void prepare(const float* from, const Tensor& norm, std::size_t position, const Inputs& inputs,
               float* to) const;

  const Kernels& kernels_;
  AttentionShape shape_;
  bool interleaved_;
};

}  // namespace fastslm::ops
