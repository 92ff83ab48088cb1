#include "ops/short_conv.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "ops/runtime/scratch.hpp"

namespace fastslm::ops {
namespace {

constexpr std::int64_t kMostTaps = 64;
// Below this many numbers a second thread costs more than it saves.
constexpr std::size_t kNumbersPerTask = 16384;

std::int64_t dim(std::size_t size) { return static_cast<std::int64_t>(size); }

void demand(bool holds, const char* name, const Tensor& tensor, const std::string& expected) {
  if (!holds) throw OpError(std::string(name) + " has shape " + tensor.shape() + ", expected " + expected);
}

}  // namespace

struct ShortConv::Step {
  std::size_t batch, sequence, capacity, row_bytes, kernel;
  CacheFormat format;
  const std::int32_t* last;
  const float* gates;
  const float* taps;
  const float* bias;  // or null
  const std::uint8_t* past;
  std::uint8_t* present;
  float* y;

  std::size_t total(std::size_t b) const { return static_cast<std::size_t>(last[b]) + 1; }
  std::size_t before(std::size_t b) const { return total(b) > sequence ? total(b) - sequence : 0; }
  std::size_t tokens(std::size_t b) const { return total(b) - before(b); }
};

ShortConv::ShortConv(const Setting& setting)
    : kernels_(setting.kernels),
      heads_(static_cast<std::size_t>(setting.info.integer("heads", 1, 65536))),
      head_dim_(static_cast<std::size_t>(setting.info.integer("head_dim", 3, 4096))) {}

void ShortConv::check(const Context& context, const Tensor& gates, const Tensor& taps) const {
  const Tensor past = context.input(1), last = context.input(2), bias = context.input(4);
  demand(gates.rank == 2 && gates.dims[1] == dim(3 * width()), "gates", gates,
         "[tokens, " + std::to_string(3 * width()) + "]");
  demand(taps.rank == 2 && taps.dims[0] >= 1 && taps.dims[0] <= kMostTaps && taps.dims[1] == dim(width()),
         "taps", taps, "[1 to " + std::to_string(kMostTaps) + ", " + std::to_string(width()) + "]");
  demand(!bias || (bias.rank == 1 && bias.count() == width()), "bias", bias,
         "[" + std::to_string(width()) + "]");
  demand(last.rank == 1 && last.count() > 0 && gates.dims[0] % last.dims[0] == 0, "seqlens_k", last,
         "[batch] for " + std::to_string(gates.dims[0]) + " tokens");
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(past.data) % alignof(float) == 0;
  demand(past.rank == 4 && is_aligned && past.dims[0] == last.dims[0] && past.dims[1] == dim(heads_) &&
             format_of(static_cast<std::size_t>(past.dims[3]), head_dim_),
         "past", past,
         "[" + std::to_string(last.dims[0]) + ", " + std::to_string(heads_) + ", capacity, row] bytes");
  for (std::size_t b = 0; b < last.count(); ++b) {
    const std::int64_t total = std::int64_t{last.as<const std::int32_t>()[b]} + 1;
    if (total < 1 || total > past.dims[2]) {
      throw OpError("row " + std::to_string(b) + " has " + std::to_string(total) +
                    " positions, expected 1 to " + std::to_string(past.dims[2]));
    }
  }
}

ShortConv::Step ShortConv::read(const Context& context) const {
  const Tensor gates = context.input(0), past = context.input(1), last = context.input(2);
  const Tensor taps = context.input(3), bias = context.input(4);
  check(context, gates, taps);
  const std::array<std::int64_t, 2> dims{gates.dims[0], dim(width())};
  Step step{};
  step.batch = last.count();
  step.sequence = static_cast<std::size_t>(gates.dims[0]) / step.batch;
  step.capacity = static_cast<std::size_t>(past.dims[2]);
  step.row_bytes = static_cast<std::size_t>(past.dims[3]);
  step.kernel = static_cast<std::size_t>(taps.dims[0]);
  step.format = *format_of(step.row_bytes, head_dim_);
  step.last = last.as<const std::int32_t>();
  step.gates = gates.as<const float>();
  step.taps = taps.as<const float>();
  step.bias = bias ? bias.as<const float>() : nullptr;
  step.past = past.as<const std::uint8_t>();
  step.y = context.output(0, dims).as<float>();
  step.present = context.output(1, std::span(past.dims).first(4)).as<std::uint8_t>();
  return step;
}

void ShortConv::compute(const Context& context) const {
  const Step step = read(context);
  const std::size_t lines = step.batch * heads_;
  const std::size_t numbers = step.batch * step.sequence * width();
  const std::size_t tasks = std::clamp<std::size_t>(numbers / kNumbersPerTask, 1, lines);
  context.parallel_for(tasks, [&](std::size_t task) {
    for (std::size_t line = lines * task / tasks; line < lines * (task + 1) / tasks; ++line) {
      convolve(step, line / heads_, line % heads_);
    }
  });
}

// One head of one row of the batch, from its first new token to the last. The newest `kernel` rows are in a
// ring: that of position p at p % kernel.
void ShortConv::convolve(const Step& step, std::size_t b, std::size_t head) const {
  const std::size_t size = head_dim_, kernel = step.kernel, first = head * size, before = step.before(b);
  const std::size_t at = (b * heads_ + head) * step.capacity * step.row_bytes;
  std::uint8_t* cache = step.present + at;
  if (step.past != step.present) {
    std::memcpy(cache, step.past + at, before * step.row_bytes);
    std::memset(cache + before * step.row_bytes, 0, (step.capacity - before) * step.row_bytes);
  }
  float* ring = scratch<Use::ring, float>((kernel + 1) * size);
  float* z = ring + kernel * size;
  std::fill(ring, ring + kernel * size, 0.0F);
  for (std::size_t p = before - std::min(before, kernel - 1); p < before; ++p) {
    load_row(step.format, cache + p * step.row_bytes, size, ring + p % kernel * size);
  }
  for (std::size_t t = 0; t < step.sequence; ++t) {
    const std::size_t token = b * step.sequence + t, p = before + t;
    float* y = step.y + token * width() + first;
    if (t >= step.tokens(b)) {
      std::fill(y, y + size, 0.0F);
      continue;
    }
    const float* gates = step.gates + token * 3 * width() + first;
    for (std::size_t i = 0; i < size; ++i) z[i] = gates[i] * gates[2 * width() + i];
    kernels_.store_row(step.format, z, size, cache + p * step.row_bytes);
    load_row(step.format, cache + p * step.row_bytes, size, ring + p % kernel * size);
    for (std::size_t i = 0; i < size; ++i) y[i] = step.bias != nullptr ? step.bias[first + i] : 0.0F;
    for (std::size_t j = 0; j < kernel; ++j) {
      const float* row = ring + (p + 1 + j) % kernel * size;  // position p - kernel + 1 + j
      const float* tap = step.taps + j * width() + first;
      for (std::size_t i = 0; i < size; ++i) y[i] += tap[i] * row[i];
    }
    for (std::size_t i = 0; i < size; ++i) y[i] *= gates[width() + i];
  }
}

}  // namespace fastslm::ops
