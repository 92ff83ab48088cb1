#include <algorithm>
#include <cmath>

#include "ops/attention/step.hpp"
#include "ops/runtime/scratch.hpp"

namespace fastslm::ops {
namespace {

// Query rows that share the transposed keys of a tile; their sums stay in the second level cache.
constexpr std::size_t kBlockRows = 384;
// Up to this many query rows of a KV head the work is split over chunks of keys, else over blocks of tokens.
constexpr std::size_t kFewRows = 64;

// Tokens [first, end) of batch row b seen by KV head h: one query row for each token and head of the group.
class Rows {
 public:
  Rows(const AttentionStep& step, std::size_t b, std::size_t h, std::size_t first, std::size_t end)
      : step_(step) {
    const AttentionShape& shape = step.shape;
    const std::size_t count = (end - first) * shape.group();
    const float** queries = scratch<Use::queries, const float*>(count);
    float* slopes = step.slopes != nullptr ? scratch<Use::slopes, float>(count) : nullptr;
    std::int64_t* positions = scratch<Use::positions, std::int64_t>(count);
    for (std::size_t row = 0; row < count; ++row) {
      const std::size_t token = first + row / shape.group();
      const std::size_t head = h * shape.group() + row % shape.group();
      queries[row] = step.queries + (((b * step.sequence) + token) * shape.heads + head) * shape.head_dim;
      positions[row] = static_cast<std::int64_t>(step.past(b) + token);
      if (slopes != nullptr) slopes[row] = step.slopes[head];
    }
    const std::size_t cache = (b * shape.kv_heads + h) * step.capacity * step.row_bytes;
    rows_ = {queries,           positions,           slopes,      count,
             step.keys + cache, step.values + cache, step.format, step.row_bytes,
             shape.head_dim,    shape.window,        shape.scale, shape.soft_cap};
  }

  const AttentionRows& get() const { return rows_; }
  // The first chunk in which any row sees a key, and the end of the last.
  std::int64_t first_key() const {
    const std::int64_t first = rows_.window > 0 ? rows_.positions[0] - rows_.window + 1 : 0;
    return std::max<std::int64_t>(0, first) / kChunkKeys * kChunkKeys;
  }
  std::int64_t end_key() const { return rows_.positions[rows_.count - 1] + 1; }

  // Keys from `first`, where a chunk begins, up to `end` at most.
  void attend(const Kernels& kernels, std::int64_t first, std::int64_t end, const AttentionPartial& result,
              const AttentionPartial& chunk = {}) const {
    const std::size_t padded = (rows_.head_dim + 63) / 64 * 64;
    float* memory = scratch<Use::attend_tiles, float>((kAttendScratch + rows_.count) * (padded + 1));
    kernels.attend(rows_, first, std::min(end, end_key()), memory, result, chunk);
  }

  void write(const AttentionPartial& sums) const {
    for (std::size_t row = 0; row < rows_.count; ++row) {
      const std::ptrdiff_t at = rows_.queries[row] - step_.queries;
      const float total = sum(sums.totals + row * kTotals);
      const float factor = total > 0 ? 1.0F / (total + sink(at, sums.most[row])) : 0.0F;
      const float* values = sums.values + row * sums.stride;
      float* y = step_.y + at;
      for (std::size_t d = 0; d < rows_.head_dim; ++d) y[d] = values[d] * factor;
    }
  }

 private:
  // Of kTotals numbers, halves upon halves.
  static float sum(float* parts) {
    for (std::size_t half = kTotals / 2; half > 0; half /= 2) {
      for (std::size_t i = 0; i < half; ++i) parts[i] += parts[i + half];
    }
    return parts[0];
  }
  // What a head's sink adds to the sum of exponentials: it takes part in the softmax and has no value.
  float sink(std::ptrdiff_t query, float most) const {
    if (step_.sinks == nullptr) return 0;
    const AttentionShape& shape = step_.shape;
    const std::size_t head = static_cast<std::size_t>(query) / shape.head_dim % shape.heads;
    return std::exp2(step_.sinks[head] * kLog2OfE - most);
  }

  const AttentionStep& step_;
  AttentionRows rows_{};
};

std::size_t padded(std::size_t head_dim) { return (head_dim + 15) / 16 * 16; }

std::size_t partial_size(std::size_t rows, std::size_t head_dim) {
  return rows * (padded(head_dim) + kTotals + 1);
}

AttentionPartial partial_at(float* memory, std::size_t rows, std::size_t head_dim) {
  float* totals = memory + rows * padded(head_dim);
  return {totals + rows * kTotals, totals, memory, padded(head_dim)};
}

void attend_block(const Kernels& kernels, const Rows& rows) {
  const std::size_t count = rows.get().count, head_dim = rows.get().head_dim;
  float* memory = scratch<Use::partial, float>(2 * partial_size(count, head_dim));
  const AttentionPartial sums = partial_at(memory, count, head_dim);
  const AttentionPartial chunk = partial_at(memory + partial_size(count, head_dim), count, head_dim);
  rows.attend(kernels, rows.first_key(), rows.end_key(), sums, chunk);
  rows.write(sums);
}

// Many rows: each task takes a block of tokens through all its keys. Blocks with most keys go first.
void attend_blocks(const Context& context, const Kernels& kernels, const AttentionStep& step) {
  const std::size_t kv_heads = step.shape.kv_heads;
  const std::size_t size = std::max<std::size_t>(1, kBlockRows / step.shape.group());
  const std::size_t blocks = ceil_div(step.sequence, size);
  context.parallel_for(step.batch * kv_heads * blocks, [&](std::size_t task) {
    const std::size_t block = blocks - 1 - task / (step.batch * kv_heads);
    const std::size_t b = task % (step.batch * kv_heads) / kv_heads, h = task % kv_heads;
    const std::size_t first = block * size, end = std::min(first + size, step.tokens(b));
    if (first < end) attend_block(kernels, Rows(step, b, h, first, end));
  });
}

// Few rows: each task takes all of them through one chunk of keys; what the chunks give is added in order.
void attend_chunks(const Context& context, const Kernels& kernels, const AttentionStep& step) {
  const std::size_t kv_heads = step.shape.kv_heads, head_dim = step.shape.head_dim;
  const std::size_t most_rows = step.sequence * step.shape.group();
  std::size_t longest = 0;
  for (std::size_t b = 0; b < step.batch; ++b) longest = std::max(longest, step.total(b));
  const std::size_t chunks = ceil_div(longest, static_cast<std::size_t>(kChunkKeys));
  const std::size_t size = partial_size(most_rows, head_dim);
  float* memory = scratch<Use::chunks, float>(step.batch * kv_heads * chunks * size);
  const auto chunk_start = [](std::size_t chunk) { return static_cast<std::int64_t>(chunk) * kChunkKeys; };
  context.parallel_for(step.batch * kv_heads * chunks, [&](std::size_t task) {
    const std::size_t pair = task / chunks, start = task % chunks;
    const Rows rows(step, pair / kv_heads, pair % kv_heads, 0, step.tokens(pair / kv_heads));
    if (chunk_start(start) < rows.first_key() || chunk_start(start) >= rows.end_key()) return;
    rows.attend(kernels, chunk_start(start), chunk_start(start + 1),
                partial_at(memory + task * size, rows.get().count, head_dim));
  });
  for (std::size_t pair = 0; pair < step.batch * kv_heads; ++pair) {
    const Rows rows(step, pair / kv_heads, pair % kv_heads, 0, step.tokens(pair / kv_heads));
    const auto first = static_cast<std::size_t>(rows.first_key() / kChunkKeys);
    const auto part = [&](std::size_t chunk) {
      return partial_at(memory + (pair * chunks + chunk) * size, rows.get().count, head_dim);
    };
    for (std::size_t chunk = first + 1; chunk_start(chunk) < rows.end_key(); ++chunk) {
      for (std::size_t row = 0; row < rows.get().count; ++row)
        kernels.merge(part(first), row, part(chunk), row);
    }
    rows.write(part(first));
  }
}

}  // namespace

void attend(const Context& context, const Kernels& kernels, const AttentionStep& step) {
  if (step.sequence * step.shape.group() <= kFewRows) {
    attend_chunks(context, kernels, step);
  } else {
    attend_blocks(context, kernels, step);
  }
}

}  // namespace fastslm::ops
