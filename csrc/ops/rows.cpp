#include "ops/rows.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/half.hpp"

namespace fastslm::ops {
namespace {

// One group of one row with steps, whose codes begin at `codes`.
void unpack_steps(const PackedView& matrix, const std::uint8_t* unit, std::size_t r, float scale,
                  const std::uint8_t* codes, float* to) {
  const auto parts = static_cast<std::size_t>(matrix.group) / kStepInputs;
  for (std::size_t part = 0; part < parts; ++part) {
    const int base = unit[matrix.bases_at + part * kPackedBlockRows + r] - 128;
    const int step = unit[matrix.steps_at + part / 2 * 32 + r] >> (part % 2 * 4) & 15;
    const auto weight = [&](int code) { return scale * static_cast<float>(base + step * code); };
    for (std::size_t i = 0; i < 4; ++i, codes += 128, to += 8) {
      for (std::size_t j = 0; j < 4; ++j) {
        to[j] = weight(codes[j] & 15);
        to[4 + j] = weight(codes[j] >> 4);
      }
    }
  }
}

// One group of one row; `r` is the row's number in its block.
void unpack_group(const PackedView& matrix, const std::uint8_t* unit, std::size_t r, float* to) {
  const std::uint8_t* scales = unit + matrix.code_bytes + r * 2;
  const float scale = float_of_half(scales);
  const float half = matrix.has_offsets ? float_of_half(scales + 64) : 0.0F;
  const float offset = matrix.scales_offsets ? half * scale : half;
  const int zero = matrix.has_offsets ? 0 : (matrix.bits == 4 ? 8 : 128);
  const auto weight = [&](int code) { return scale * static_cast<float>(code - zero) + offset; };
  const auto group = static_cast<std::size_t>(matrix.group);
  if (matrix.bits == 8) {
    for (std::size_t k = 0; k < group; ++k) to[k] = weight(unit[k / 4 * 128 + r * 4 + k % 4]);
    return;
  }
  const std::uint8_t* codes = unit + r * 4;
  if (matrix.has_steps) return unpack_steps(matrix, unit, r, scale, codes, to);
  for (std::size_t step = 0; step < group / 8; ++step) {
    for (std::size_t j = 0; j < 4; ++j) {
      to[step * 8 + j] = weight(codes[step * 128 + j] & 15);
      to[step * 8 + 4 + j] = weight(codes[step * 128 + j] >> 4);
    }
  }
}

}  // namespace

void QEmbedding::compute(const Context& context) const {
  const Tensor ids = context.input(0);
  if (ids.rank >= kMostDimensions)
    throw OpError("ids have shape " + ids.shape() + ", expected fewer dimensions");
  auto dims = ids.dims;
  dims[ids.rank] = static_cast<std::int64_t>(weight_.inputs());
  float* y = context.output(0, std::span(dims).first(ids.rank + 1)).as<float>();
  const PackedView matrix = weight_.view(context);
  const std::size_t count = ids.count();
  for (std::size_t i = 0; i < count; ++i) {
    const std::int64_t id = ids.as<const std::int64_t>()[i];
    if (id < 0 || id >= static_cast<std::int64_t>(weight_.rows())) {
      throw OpError("id is " + std::to_string(id) + ", expected 0 to " + std::to_string(weight_.rows() - 1));
    }
  }
  constexpr std::size_t ids_per_task = 16;
  context.parallel_for(ceil_div(count, ids_per_task), [&](std::size_t task) {
    for (std::size_t i = task * ids_per_task; i < std::min(count, (task + 1) * ids_per_task); ++i) {
      const auto row = static_cast<std::size_t>(ids.as<const std::int64_t>()[i]);
      const std::uint8_t* unit = matrix.units + row / kPackedBlockRows * matrix.groups * matrix.unit_bytes;
      for (std::size_t g = 0; g < matrix.groups; ++g, unit += matrix.unit_bytes) {
        unpack_group(matrix, unit, row % kPackedBlockRows,
                     y + i * weight_.inputs() + g * static_cast<std::size_t>(matrix.group));
      }
    }
  });
}

SkipRmsNorm::SkipRmsNorm(const Setting& setting)
    : kernels_(setting.kernels), epsilon_(setting.info.number_or("epsilon", 1e-6F)) {}

void SkipRmsNorm::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const Tensor weight = context.input(1);
  const Tensor residual = context.input(2);
  const std::size_t width = weight.count();
  if (width == 0) throw OpError("weight is empty");
  const std::size_t count = rows_of(x, width);
  if (residual && residual.count() != x.count()) {
    throw OpError("residual has shape " + residual.shape() + ", expected " + x.shape());
  }
  const auto dims = std::span(x.dims).first(x.rank);
  float* y = context.output(0, dims).as<float>();
  float* sums = context.output(1, dims).as<float>();
  constexpr std::size_t rows_per_task = 32;  // below this a second thread costs more than it saves
  context.parallel_for(ceil_div(count, rows_per_task), [&](std::size_t task) {
    for (std::size_t row = task * rows_per_task; row < std::min(count, (task + 1) * rows_per_task); ++row) {
      const float* from = x.as<const float>() + row * width;
      if (residual || sums != nullptr) {
        float* sum = sums != nullptr ? sums + row * width : scratch<Use::tile, float>(width);
        std::memcpy(sum, from, width * sizeof(float));
        if (residual) kernels_.add(sum, residual.as<const float>() + row * width, width);
        from = sum;
      }
      kernels_.rms_norm(from, weight.as<const float>(), epsilon_, width, y + row * width);
    }
  });
}

}  // namespace fastslm::ops
