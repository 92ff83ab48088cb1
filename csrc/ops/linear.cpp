#include "ops/linear.hpp"

#include <algorithm>
#include <string>

namespace fastslm::ops {
namespace {

Tensor output_like(const Context& context, const Tensor& x, std::size_t width) {
  auto dims = x.dims;
  dims[x.rank - 1] = static_cast<std::int64_t>(width);
  return context.output(0, std::span(dims).first(x.rank));
}

}  // namespace

QLinear::QLinear(const Setting& setting) : kernels_(setting.kernels), weight_(setting.info, 1) {}

void QLinear::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const std::size_t count = rows_of(x, weight_.inputs());
  const std::size_t width = weight_.rows();
  const float* bias = optional_values(context.input(2), width, "bias");
  const float* residual = optional_values(context.input(3), count * width, "residual");
  float* y = output_like(context, x, width).as<float>();
  const auto finish = [&](const RawTile& tile) {
    const std::size_t first = tile.first_block * kPackedBlockRows;
    const std::size_t columns = std::min(tile.end_block * kPackedBlockRows, width) - first;
    const std::size_t at = tile.row * width + first;
    kernels_.put({tile.raw, tile.stride, tile.count, columns, y + at, width},
                 bias != nullptr ? bias + first : nullptr, residual != nullptr ? residual + at : nullptr);
  };
  Product(context, kernels_, weight_, 1, finish).run(x.as<const float>(), count);
}

QGateUp::QGateUp(const Setting& setting)
    : kernels_(setting.kernels),
      weight_(setting.info, 1),
      activation_(static_cast<Activation>(setting.info.integer("activation", 0, kLastActivation))),
      width_(static_cast<std::size_t>(
          setting.info.integer("width", 1, static_cast<std::int64_t>(weight_.rows())))) {
  const std::size_t halves = (width_ + kPackedBlockRows - 1) / kPackedBlockRows * kPackedBlockRows * 2;
  if (weight_.rows() != halves) {
    throw OpError("attribute `N` is " + std::to_string(weight_.rows()) + ", expected " +
                  std::to_string(halves) + " for two halves of width " + std::to_string(width_));
  }
}

void QGateUp::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const std::size_t count = rows_of(x, weight_.inputs());
  const float* bias = optional_values(context.input(2), weight_.rows(), "bias");
  float* y = output_like(context, x, width_).as<float>();
  const auto finish = [&](const RawTile& tile) { gate_tile(kernels_, activation_, bias, tile, y, width_); };
  Product(context, kernels_, weight_, 2, finish).run(x.as<const float>(), count);
}

}  // namespace fastslm::ops
