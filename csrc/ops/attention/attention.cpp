#include "ops/attention/attention.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "ops/attention/cache_format.hpp"
#include "ops/runtime/scratch.hpp"

namespace fastslm::ops {
namespace {

std::int64_t dim(std::size_t size) { return static_cast<std::int64_t>(size); }

void demand(bool holds, const char* name, const Tensor& tensor, const std::string& expected) {
  if (!holds) throw OpError(std::string(name) + " has shape " + tensor.shape() + ", expected " + expected);
}

// Of every format, as an error says it.
std::string all_row_bytes(std::size_t head_dim) {
  const auto of = [&](CacheFormat format) { return std::to_string(row_bytes_of(format, head_dim)); };
  return of(CacheFormat::f32) + ", " + of(CacheFormat::f16) + ", " + of(CacheFormat::int16) + " or " +
         of(CacheFormat::int8);
}

AttentionShape read_shape(const Info& info) {
  constexpr std::int64_t most = 4096;
  AttentionShape shape{static_cast<std::size_t>(info.integer("heads", 1, most)),
                       static_cast<std::size_t>(info.integer("kv_heads", 1, most)),
                       static_cast<std::size_t>(info.integer("head_dim", 3, most)),
                       info.integer_or("window", 0, 0, std::int64_t{1} << 31),
                       info.number_or("scale", 0),
                       info.number_or("soft_cap", 0),
                       info.number_or("epsilon", 1e-6F)};
  if (shape.heads % shape.kv_heads != 0) {
    throw OpError("attribute `heads` is " + std::to_string(shape.heads) +
                  ", expected a multiple of kv_heads " + std::to_string(shape.kv_heads));
  }
  if (shape.scale == 0) shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
  return shape;
}

}  // namespace

// Tensors of one call. Query, key and value have a row per token, `stride` floats apart.
struct Attention::Inputs {
  Tensor query, key, value, past_keys, past_values, last, cosines, sines, query_norm, key_norm, sinks, slopes;

  std::size_t query_width() const { return static_cast<std::size_t>(query.dims[query.rank - 1]); }
  std::size_t tokens() const { return query.count() / query_width(); }
  std::size_t half() const { return cosines ? static_cast<std::size_t>(cosines.dims[1]) : 0; }
};

Attention::Attention(const Setting& setting)
    : kernels_(setting.kernels),
      shape_(read_shape(setting.info)),
      interleaved_(setting.info.integer_or("interleaved", 0, 0, 1) == 1) {}

// How many positions the rotary tables know; without tables positions make no difference.
std::int64_t Attention::rotary_positions(const Inputs& in) const {
  if (!in.cosines && !in.sines) return std::numeric_limits<std::int64_t>::max();
  demand(in.cosines.rank == 2 && in.cosines.dims[1] * 2 <= dim(shape_.head_dim), "cosines", in.cosines,
         "[positions, at most " + std::to_string(shape_.head_dim / 2) + "]");
  demand(in.sines.rank == 2 && in.sines.dims == in.cosines.dims, "sines", in.sines, in.cosines.shape());
  return in.cosines.dims[0];
}

Attention::Inputs Attention::read(const Context& context) const {
  const Inputs in{context.input(0), context.input(1), context.input(2),  context.input(3),
                  context.input(4), context.input(5), context.input(6),  context.input(7),
                  context.input(8), context.input(9), context.input(10), context.input(11)};
  const std::size_t width = shape_.heads * shape_.head_dim, kv_width = shape_.kv_heads * shape_.head_dim;
  const std::size_t query_width = in.key ? width : width + 2 * kv_width;
  demand(in.query.rank >= 2 && in.query.rank <= 3 && in.query.dims[in.query.rank - 1] == dim(query_width),
         "query", in.query, "[tokens, " + std::to_string(query_width) + "]");
  const std::size_t batch = in.last.count();
  demand(in.last.rank == 1 && batch > 0 && in.tokens() % batch == 0, "seqlens_k", in.last,
         "[batch] for " + std::to_string(in.tokens()) + " tokens");
  if (in.key || in.value) {
    const std::string expected =
        std::to_string(in.tokens()) + " tokens of " + std::to_string(kv_width) + " values";
    demand(in.key.count() == in.tokens() * kv_width, "key", in.key, expected);
    demand(in.value.count() == in.tokens() * kv_width, "value", in.value, expected);
  }
  check_sides(in);
  static_cast<void>(check_cache(in));
  const std::int64_t most = std::min(in.past_keys.dims[2], rotary_positions(in));
  for (std::size_t b = 0; b < batch; ++b) {
    const std::int64_t total = std::int64_t{in.last.as<const std::int32_t>()[b]} + 1;
    if (total < 1 || total > most) {
      throw OpError("row " + std::to_string(b) + " has " + std::to_string(total) +
                    " positions, expected 1 to " + std::to_string(most));
    }
  }
  return in;
}

// Inputs with a number for each head, or for each number of a head.
void Attention::check_sides(const Inputs& in) const {
  const auto check = [](const Tensor& tensor, const char* name, std::size_t size) {
    demand(!tensor || (tensor.rank == 1 && tensor.count() == size), name, tensor,
           "[" + std::to_string(size) + "]");
  };
  check(in.query_norm, "query norm", shape_.head_dim);
  check(in.key_norm, "key norm", shape_.head_dim);
  check(in.sinks, "sinks", shape_.heads);
  check(in.slopes, "slopes", shape_.heads);
}

CacheFormat Attention::check_cache(const Inputs& in) const {
  const auto row = static_cast<std::size_t>(in.past_keys.dims[3]);
  const auto format = format_of(row, shape_.head_dim);
  const std::array<std::int64_t, 4> cache{dim(in.last.count()), dim(shape_.kv_heads), in.past_keys.dims[2],
                                          dim(row)};
  for (const Tensor& past : {in.past_keys, in.past_values}) {
    const bool is_aligned = reinterpret_cast<std::uintptr_t>(past.data) % alignof(float) == 0;
    demand(
        past.rank == 4 && format && is_aligned && std::equal(cache.begin(), cache.end(), past.dims.begin()),
        "past", past,
        "[" + std::to_string(cache[0]) + ", " + std::to_string(cache[1]) + ", capacity, " +
            all_row_bytes(shape_.head_dim) + "] bytes");
  }
  return *format;
}

void Attention::compute(const Context& context) const {
  const Inputs in = read(context);
  auto dims = in.query.dims;
  dims[in.query.rank - 1] = dim(shape_.heads * shape_.head_dim);
  const auto cache = std::span(in.past_keys.dims).first(4);
  AttentionStep step{};
  step.shape = shape_;
  step.batch = in.last.count();
  step.sequence = in.tokens() / step.batch;
  step.capacity = static_cast<std::size_t>(cache[2]);
  step.row_bytes = static_cast<std::size_t>(cache[3]);
  step.format = check_cache(in);
  step.last_positions = in.last.as<const std::int32_t>();
  step.y = context.output(0, std::span(dims).first(in.query.rank)).as<float>();
  step.keys = context.output(1, cache).as<std::uint8_t>();
  step.values = context.output(2, cache).as<std::uint8_t>();
  step.sinks = in.sinks ? in.sinks.as<const float>() : nullptr;
  step.slopes = in.slopes ? in.slopes.as<const float>() : nullptr;
  step.queries = scratch<Use::rotated, float>(in.tokens() * shape_.heads * shape_.head_dim);
  if (in.tokens() == 0) return;
  append(context, step, in);
  attend(context, kernels_, step);
}

// One head of one token, normed and turned.
void Attention::prepare(const float* from, const Tensor& norm, std::size_t position, const Inputs& in,
                        float* to) const {
  const std::size_t half = in.half(), head = shape_.head_dim;
  if (norm) {
    float* normed = scratch<Use::head, float>(2 * head);
    kernels_.rms_norm(from, norm.as<const float>(), shape_.epsilon, head, normed);
    from = normed;
  }
  const float* cosines = in.cosines.as<const float>() + position * half;
  const float* sines = in.sines.as<const float>() + position * half;
  for (std::size_t i = 0; i < half; ++i) {
    const std::size_t first = interleaved_ ? 2 * i : i, second = interleaved_ ? 2 * i + 1 : i + half;
    const float a = from[first], b = from[second];
    to[first] = a * cosines[i] - b * sines[i];
    to[second] = b * cosines[i] + a * sines[i];
  }
  std::memcpy(to + 2 * half, from + 2 * half, (head - 2 * half) * sizeof(float));
}

namespace {

// Outputs in other memory than the past: what is valid moves, the rest becomes zero.
void move_past(const AttentionStep& step, const std::uint8_t* past, std::uint8_t* present) {
  if (past == present) return;
  const std::size_t rows = step.batch * step.shape.kv_heads;
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t at = row * step.capacity * step.row_bytes, valid = step.past(row / step.shape.kv_heads);
    std::memcpy(present + at, past + at, valid * step.row_bytes);
    std::memset(present + at + valid * step.row_bytes, 0, (step.capacity - valid) * step.row_bytes);
  }
}

}  // namespace

void Attention::append(const Context& context, const AttentionStep& step, const Inputs& in) const {
  move_past(step, in.past_keys.as<const std::uint8_t>(), step.keys);
  move_past(step, in.past_values.as<const std::uint8_t>(), step.values);
  constexpr std::size_t tokens_per_task = 16;
  const std::size_t tokens = in.tokens();
  context.parallel_for(ceil_div(tokens, tokens_per_task), [&](std::size_t task) {
    const std::size_t end = std::min(tokens, (task + 1) * tokens_per_task);
    for (std::size_t i = task * tokens_per_task; i < end; ++i) append_token(step, in, i);
  });
}

void Attention::append_token(const AttentionStep& step, const Inputs& in, std::size_t token) const {
  const std::size_t head = shape_.head_dim, width = shape_.heads * head, kv_width = shape_.kv_heads * head;
  const std::size_t b = token / step.sequence, t = token % step.sequence, position = step.past(b) + t;
  if (t >= step.tokens(b)) {
    std::memset(step.y + token * width, 0, width * sizeof(float));
    return;
  }
  const float* query = in.query.as<const float>() + token * in.query_width();
  for (std::size_t h = 0; h < shape_.heads; ++h) {
    prepare(query + h * head, in.query_norm, position, in, step.queries + token * width + h * head);
  }
  const float* key = in.key ? in.key.as<const float>() + token * kv_width : query + width;
  const float* value = in.value ? in.value.as<const float>() + token * kv_width : query + width + kv_width;
  float* turned = scratch<Use::head, float>(2 * head) + head;
  for (std::size_t h = 0; h < shape_.kv_heads; ++h) {
    const std::size_t at = ((b * shape_.kv_heads + h) * step.capacity + position) * step.row_bytes;
    prepare(key + h * head, in.key_norm, position, in, turned);
    kernels_.store_row(step.format, turned, head, step.keys + at);
    kernels_.store_row(step.format, value + h * head, head, step.values + at);
  }
}

}  // namespace fastslm::ops
