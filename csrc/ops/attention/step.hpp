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
  float epsilon;   // of the norms of query and key

  std::size_t group() const { return heads / kv_heads; }
};

struct AttentionStep {
  AttentionShape shape;
  std::size_t batch;
  std::size_t sequence;
  std::size_t capacity;
  CacheFormat format;
  std::size_t row_bytes;               // of the cache
  const std::int32_t* last_positions;  // [batch]
  float* queries;                      // [batch * sequence][heads][head_dim], normed and turned
  std::uint8_t* keys;                  // [batch][kv_heads][capacity][row_bytes]
  std::uint8_t* values;
  const float* sinks;   // [heads], or null
  const float* slopes;  // [heads], or null
  float* y;             // like queries

  std::size_t total(std::size_t b) const { return static_cast<std::size_t>(last_positions[b]) + 1; }
  std::size_t past(std::size_t b) const { return total(b) > sequence ? total(b) - sequence : 0; }
  std::size_t tokens(std::size_t b) const { return total(b) - past(b); }
};

// Fill in `y` for every token that is not padding.
void attend(const Context& context, const Kernels& kernels, const AttentionStep& step);

}  // namespace fastslm::ops
