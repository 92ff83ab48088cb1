// One call of the Attention operator, checked and with rotated queries: what the division into tasks works
// on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/runtime/define.hpp"

namespace fastslm::ops {

struct AttentionShape {
  std::size_t heads;
  std::size_t kv_heads;
  std::size_t head_dim;
  std::int64_t window;  // 0: all
  float scale;
  float soft_cap;  // 0: none

  std::size_t group() const { return heads / kv_heads; }
};

struct AttentionStep {
  AttentionShape shape;
  std::size_t batch;
  std::size_t sequence;
  std::size_t capacity;
  const std::int32_t* last_positions;  // [batch]
  const float* queries;                // [batch * sequence][heads][head_dim]
  const float* keys;                   // [batch][kv_heads][capacity][head_dim]
  const float* values;
  float* y;  // like queries

  std::size_t total(std::size_t b) const { return static_cast<std::size_t>(last_positions[b]) + 1; }
  std::size_t past(std::size_t b) const { return total(b) > sequence ? total(b) - sequence : 0; }
  std::size_t tokens(std::size_t b) const { return total(b) - past(b); }
};

// Fill in `y` for every token that is not padding.
void attend(const Context& context, const Kernels& kernels, const AttentionStep& step);

}  // namespace fastslm::ops
