#include "ops/mixture.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace fastslm::ops {
namespace {

constexpr std::int64_t kMostExperts = 4096;
constexpr std::size_t kRowsPerTask = 16;
constexpr std::size_t kExpertsPerTask = 16;

// Matrix number `index` of those that lie one after the other.
PackedView matrix_at(PackedView view, const PackedWeight& weight, std::size_t index) {
  view.units += index * weight.bytes();
  return view;
}

// What is done with a tile of gate and up.
struct Gating {
  const Kernels& kernels;
  Activation activation;
  const float* bias;  // of the expert, or null
  float* inner;
  std::size_t width;

  void operator()(const RawTile& tile) const { gate_tile(kernels, activation, bias, tile, inner, width); }
};

// What is done with a tile of down.
struct Adding {
  const Kernels& kernels;
  const float* bias;  // of the expert, or null
  const std::uint32_t* rows;
  const float* shares;
  float* y;
  std::size_t width;

  void operator()(const RawTile& tile) const {
    const std::size_t first = tile.first_block * kPackedBlockRows;
    const std::size_t columns = std::min(tile.end_block * kPackedBlockRows, width) - first;
    for (std::size_t r = 0; r < tile.count; ++r) {
      const float share = shares[tile.row + r];
      float* raw = tile.raw + r * tile.stride;
      if (bias != nullptr) kernels.add(raw, bias + first, columns);
      float* to = y + rows[tile.row + r] * width + first;
      for (std::size_t c = 0; c < columns; ++c) to[c] += share * raw[c];
    }
  }
};

std::size_t experts_of(const Info& info) {
  return static_cast<std::size_t>(info.integer("experts", 1, kMostExperts));
}

}  // namespace

QMoE::QMoE(const Setting& setting)
    : kernels_(setting.kernels),
      experts_(experts_of(setting.info)),
      chosen_(
          static_cast<std::size_t>(setting.info.integer("chosen", 1, static_cast<std::int64_t>(experts_)))),
      normalized_(setting.info.integer("normalized", 0, 1) == 1),
      activation_(static_cast<Activation>(setting.info.integer("activation", 0, kLastActivation))),
      gate_up_(setting.info, 2, "gate_up_", experts_),
      down_(setting.info, 3, "down_", experts_) {
  const std::size_t halves = ceil_div(down_.inputs(), kPackedBlockRows) * kPackedBlockRows * 2;
  if (gate_up_.rows() != halves) {
    throw OpError("attribute `gate_up_N` is " + std::to_string(gate_up_.rows()) + ", expected " +
                  std::to_string(halves) + " for two halves of width " + std::to_string(down_.inputs()));
  }
  if (down_.rows() != gate_up_.inputs()) {
    throw OpError("attribute `down_N` is " + std::to_string(down_.rows()) + ", expected " +
                  std::to_string(gate_up_.inputs()) + " as `gate_up_K`");
  }
}

void QMoE::compute(const Context& context) const {
  const Tensor x = context.input(0);
  const std::size_t count = rows_of(x, gate_up_.inputs());
  if (count > std::numeric_limits<std::uint32_t>::max()) {
    throw OpError("input has shape " + x.shape() + ", expected fewer rows");
  }
  float* y = context.output(0, std::span(x.dims).first(x.rank)).as<float>();
  if (count == 0) return;
  const Routes routes = route(context, x.as<const float>(), count);
  add_up(context, gate(context, x.as<const float>(), routes), routes, y, count);
}

// [count][experts]
const float* QMoE::router_scores(const Context& context, const float* x, std::size_t count) const {
  const Tensor router = context.input(1);
  const std::size_t inputs = gate_up_.inputs();
  if (router.rank != 2 || router.dims[0] != static_cast<std::int64_t>(experts_) ||
      router.dims[1] != static_cast<std::int64_t>(inputs)) {
    throw OpError("router has shape " + router.shape() + ", expected [" + std::to_string(experts_) + ", " +
                  std::to_string(inputs) + "]");
  }
  const float* bias = optional_values(context.input(4), experts_, "router bias");
  float* scores = scratch<Use::router_logits, float>(count * experts_);
  const std::size_t parts = ceil_div(experts_, kExpertsPerTask);
  context.parallel_for(parts * ceil_div(count, kRowsPerTask), [&](std::size_t task) {
    const std::size_t first = task % parts * kExpertsPerTask;
    const std::size_t row = task / parts * kRowsPerTask;
    for (std::size_t r = row; r < std::min(count, row + kRowsPerTask); ++r) {
      const std::size_t here = std::min(kExpertsPerTask, experts_ - first);
      float* to = scores + r * experts_ + first;
      kernels_.dots(x + r * inputs, router.as<const float>() + first * inputs, here, inputs, to);
      if (bias != nullptr) kernels_.add(to, bias + first, here);
    }
  });
  return scores;
}

// The chosen experts of one row, the best first, and their shares. Scores that are no numbers choose somebody
// too.
void QMoE::choose(const float* scores, std::uint32_t* chosen, float* shares) const {
  bool taken[kMostExperts] = {};
  for (std::size_t slot = 0; slot < chosen_; ++slot) {
    std::size_t best = experts_;
    for (std::size_t e = 0; e < experts_; ++e) {
      if (!taken[e] && (best == experts_ || scores[e] > scores[best])) best = e;
    }
    taken[best] = true;
    chosen[slot] = static_cast<std::uint32_t>(best);
  }
  const float most = scores[chosen[0]];
  float total = 0;
  for (std::size_t i = 0; i < (normalized_ ? chosen_ : experts_); ++i) {
    total += std::exp(scores[normalized_ ? chosen[i] : i] - most);
  }
  for (std::size_t slot = 0; slot < chosen_; ++slot)
    shares[slot] = std::exp(scores[chosen[slot]] - most) / total;
}

QMoE::Routes QMoE::route(const Context& context, const float* x, std::size_t count) const {
  const float* scores = router_scores(context, x, count);
  auto* chosen = scratch<Use::chosen, std::uint32_t>(count * chosen_);
  auto* shares = scratch<Use::shares, float>(count * chosen_);
  context.parallel_for(ceil_div(count, kRowsPerTask), [&](std::size_t task) {
    for (std::size_t r = task * kRowsPerTask; r < std::min(count, (task + 1) * kRowsPerTask); ++r) {
      choose(scores + r * experts_, chosen + r * chosen_, shares + r * chosen_);
    }
  });
  auto* rows = scratch<Use::places, std::uint32_t>(count * chosen_);
  auto* ordered = scratch<Use::place_shares, float>(count * chosen_);
  auto* starts = scratch<Use::expert_starts, std::size_t>(experts_ + 2) + 1;
  Routes routes{count * chosen_, rows, ordered, starts - 1};
  std::fill(starts - 1, starts + experts_ + 1, std::size_t{0});
  for (std::size_t i = 0; i < routes.count; ++i) ++starts[chosen[i] + 1];
  for (std::size_t e = 0; e < experts_; ++e) {
    routes.most = std::max(routes.most, starts[e + 1]);
    routes.experts += starts[e + 1] != 0 ? 1 : 0;
    starts[e + 1] += starts[e];
  }
  // starts[e] is where the next row of expert e goes; in the end it is where those of the next expert begin.
  for (std::size_t i = 0; i < routes.count; ++i) {
    const std::size_t at = starts[chosen[i]]++;
    rows[at] = static_cast<std::uint32_t>(i / chosen_);
    ordered[at] = shares[i];
  }
  return routes;
}

// The gated inner half of every expert for its rows, [routes.count][width]. A task is some units of one
// expert.
const float* QMoE::gate(const Context& context, const float* x, const Routes& routes) const {
  const std::size_t width = down_.inputs(), units = gate_up_.blocks() / 2;
  const QuantizedRows rows =
      quantize_rows(context, kernels_, gate_up_, x, routes.count, Calls::any, routes.rows);
  const PackedView view = gate_up_.view(context);
  float* inner = scratch<Use::inner, float>(routes.count * width);
  const float* bias = optional_values(context.input(5), experts_ * gate_up_.rows(), "gate and up bias");
  using Multiplier = Tiles<Gating>;
  const std::size_t few = few_tasks(routes.experts * units, routes.experts * gate_up_.bytes());
  const std::size_t few_parts = std::min(units, ceil_div(few, routes.experts));
  auto* tasks = scratch<Use::expert_tasks, std::size_t>(experts_ + 1);
  tasks[0] = 0;
  for (std::size_t e = 0; e < experts_; ++e) {
    const std::size_t here = routes.starts[e + 1] - routes.starts[e];
    const std::size_t parts = Multiplier::are_few(kernels_, here) ? few_parts : units;
    tasks[e + 1] = tasks[e] + (here == 0 ? 0 : parts);
  }
  context.parallel_for(tasks[experts_], [&](std::size_t task) {
    const auto e = static_cast<std::size_t>(std::upper_bound(tasks, tasks + experts_ + 1, task) - tasks - 1);
    const std::size_t part = task - tasks[e], parts = tasks[e + 1] - tasks[e];
    const std::size_t first = routes.starts[e];
    const float* own = bias != nullptr ? bias + e * gate_up_.rows() : nullptr;
    const Gating finish{kernels_, activation_, own, inner, width};
    Multiplier(kernels_, matrix_at(view, gate_up_, e), 2, finish)
        .multiply(rows, first, routes.starts[e + 1] - first, units * part / parts,
                  units * (part + 1) / parts);
  });
  return inner;
}

// A task is some columns of the result, so that no two add to the same number.
void QMoE::add_up(const Context& context, const float* inner, const Routes& routes, float* y,
                  std::size_t count) const {
  const std::size_t width = down_.rows(), blocks = down_.blocks();
  const QuantizedRows rows = quantize_rows(context, kernels_, down_, inner, routes.count, Calls::any);
  const PackedView view = down_.view(context);
  const float* bias = optional_values(context.input(6), experts_ * width, "down bias");
  using Multiplier = Tiles<Adding>;
  const bool few = Multiplier::are_few(kernels_, routes.most);
  const std::size_t tasks = few ? few_tasks(blocks, routes.experts * down_.bytes())
                                : ceil_div(blocks, Multiplier::units_at_once(kernels_, 1));
  context.parallel_for(tasks, [&](std::size_t task) {
    const std::size_t begin = blocks * task / tasks, end = blocks * (task + 1) / tasks;
    const std::size_t first = begin * kPackedBlockRows,
                      columns = std::min(end * kPackedBlockRows, width) - first;
    for (std::size_t r = 0; r < count; ++r) std::memset(y + r * width + first, 0, columns * sizeof(float));
    for (std::size_t e = 0; e < experts_; ++e) {
      const std::size_t start = routes.starts[e], here = routes.starts[e + 1] - start;
      if (here == 0) continue;
      const Adding finish{
          kernels_, bias != nullptr ? bias + e * width : nullptr, routes.rows, routes.shares, y, width};
      Multiplier(kernels_, matrix_at(view, down_, e), 1, finish).multiply(rows, start, here, begin, end);
    }
  });
}

}  // namespace fastslm::ops
