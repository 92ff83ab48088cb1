// The search, in vectors as wide as the registers of an instruction set: FASTSLM_LANES groups at a time.
#include <array>
#include <cstring>

#include "quant/kernels/kernels.hpp"

namespace fastslm::quant {
namespace {

constexpr std::size_t kWidth = FASTSLM_LANES;
using Lanes = float __attribute__((vector_size(4 * kWidth)));
using Mask = std::int32_t __attribute__((vector_size(4 * kWidth)));

// A group whose largest weight is below this is stored as zeros: its scale could not be inverted.
constexpr float kNegligible = 1e-30F;

// Parts of a group's range that the codes may span; the best of them is taken.
constexpr std::array kQuickSpans{1.0F, 0.93F, 0.86F};
constexpr std::array kThoroughSpans{1.04F, 1.0F, 0.965F, 0.93F, 0.895F, 0.86F, 0.82F, 0.77F};
constexpr int kThoroughRefits = 2;
constexpr int kLineRefits = 3;

Lanes all(float value) { return Lanes{} + value; }
Lanes load(const float* from) {
  Lanes value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
void store(float* to, Lanes value) { std::memcpy(to, &value, sizeof value); }
Lanes choose(Mask mask, Lanes yes, Lanes no) { return mask ? yes : no; }
Lanes smaller(Lanes a, Lanes b) { return choose(a < b, a, b); }
Lanes larger(Lanes a, Lanes b) { return choose(a > b, a, b); }

// To the nearest even whole number; for magnitudes below 2^22.
Lanes rounded(Lanes value) {
  const Lanes magic = all(12582912.0F);
  return (value + magic) - magic;
}

// 1 / value, and 0 where the value is negligible; values are at least 0.
Lanes inverse(Lanes value) {
  const Mask good = value > all(kNegligible);
  return choose(good, all(1.0F) / choose(good, value, all(1.0F)), Lanes{});
}

struct Range {
  Lanes low{};
  Lanes high{};
  Lanes zero_or_nan{};
};

// The groups of a tile that one vector holds, or some of their weights.
struct Part {
  const Tile& tile;
  std::size_t first;
  std::size_t begin = 0;
  std::size_t count = tile.group;

  Lanes weight(std::size_t i) const { return load(tile.weights[begin + i] + first); }
  Lanes importance(std::size_t i) const { return load(tile.importance[begin + i] + first); }
  std::size_t size() const { return count; }
};

Range range_of(const Part& part) {
  Range range;
  for (std::size_t i = 0; i < part.size(); ++i) {
    const Lanes w = part.weight(i);
    range.low = smaller(range.low, w);
    range.high = larger(range.high, w);
    range.zero_or_nan += w * Lanes{};
  }
  return range;
}

bool is_zero(Lanes value) {
  const Mask same = value == Lanes{};
  for (std::size_t i = 0; i < kWidth; ++i) {
    if (same[i] == 0) return false;
  }
  return true;
}

// A grid: codes per unit of weight, and the code of weight 0.
struct Grid {
  Lanes steps{};
  Lanes zero{};
};

// The grid with so many codes per unit whose middle lies in the middle of the range.
Grid centred(Lanes steps, Lanes middle) {
  const Lanes zero = rounded(all(7.5F) - middle * steps);
  return {steps, smaller(larger(zero, Lanes{}), all(15.0F))};
}

// The code of a weight less the zero point.
Lanes code_of(Lanes w, const Grid& grid) {
  // Beyond the magic number's range only infinite steps get, which `inverse` excludes.
  const Lanes code = rounded(smaller(larger(w * grid.steps, all(-16.0F)), all(16.0F)));
  return smaller(larger(code, -grid.zero), all(15.0F) - grid.zero);
}

// What a grid is worth. With q = code - zero the best scale is <w, q> / <q, q>, and the error that it leaves
// is <w, w> - <w, q>^2 / <q, q>, all products weighted: the greater the score, the better.
struct Fit {
  Lanes score{};
  Lanes scale{};
};

template <bool weighted>
Fit fit_of(const Part& part, const Grid& grid) {
  Lanes along{};
  Lanes norm{};
  for (std::size_t i = 0; i < part.size(); ++i) {
    const Lanes w = part.weight(i);
    const Lanes q = code_of(w, grid);
    const Lanes hq = weighted ? part.importance(i) * q : q;
    along += hq * w;
    norm += hq * q;
  }
  const Lanes scale = along * inverse(norm);
  return {along * scale, scale};
}

struct Best {
  Grid grid;
  Fit fit{all(-1.0F), Lanes{}};

  void consider(const Grid& other, const Fit& its) {
    const Mask better = its.score > fit.score;
    grid.steps = choose(better, other.steps, grid.steps);
    grid.zero = choose(better, other.zero, grid.zero);
    fit.score = choose(better, its.score, fit.score);
    fit.scale = choose(better, its.scale, fit.scale);
  }
};

template <bool weighted>
void try_spans(const Part& part, std::span<const float> spans, const Range& range, Best& best) {
  const Lanes middle = (range.low + range.high) * all(0.5F);
  const Lanes full = all(15.0F) * inverse(range.high - range.low);
  for (const float span : spans) {
    const Grid grid = centred(full * all(1.0F / span), middle);
    best.consider(grid, fit_of<weighted>(part, grid));
  }
}

// Lay the grid where the best fit says, also with the neighbouring zero points, and look again.
template <bool weighted>
void refit(const Part& part, Best& best) {
  const Grid from{inverse(best.fit.scale), best.grid.zero};
  for (const float shift : {0.0F, -1.0F, 1.0F}) {
    const Lanes zero = smaller(larger(from.zero + all(shift), Lanes{}), all(15.0F));
    const Grid grid{from.steps, zero};
    best.consider(grid, fit_of<weighted>(part, grid));
  }
}

template <bool weighted>
Best search(const Part& part, Effort effort, const Range& range) {
  Best best;
  if (effort == Effort::quick) {
    try_spans<weighted>(part, kQuickSpans, range, best);
    return best;
  }
  try_spans<weighted>(part, kThoroughSpans, range, best);
  for (int i = 0; i < kThoroughRefits; ++i) refit<weighted>(part, best);
  return best;
}

bool four_of(const Part& part, Effort effort, TileResult& result) {
  const Range range = range_of(part);
  const Best best =
      part.tile.has_importance ? search<true>(part, effort, range) : search<false>(part, effort, range);
  for (std::size_t i = 0; i < part.size(); ++i) {
    store(result.codes[i] + part.first, code_of(part.weight(i), best.grid) + best.grid.zero);
  }
  store(result.scales + part.first, best.fit.scale);
  store(result.zeros + part.first, best.grid.zero);
  return is_zero(range.zero_or_nan);
}

// weight = scale * code + offset.
struct Line {
  Lanes scale{};
  Lanes offset{};
};

Lanes code_on(Lanes w, const Line& line, Lanes steps) {
  const Lanes code = (w - line.offset) * steps;
  return rounded(smaller(larger(code, Lanes{}), all(15.0F)));
}

struct LineFit {
  Lanes score{};
  Line line{};
};

// The line through (code, weight) with the least weighted squares, for the codes that a grid gives. What it
// takes off the sum of squares is the score.
template <bool weighted>
LineFit line_of(const Part& part, const Line& grid) {
  const Lanes steps = inverse(grid.scale);
  Lanes count{};
  Lanes codes{};
  Lanes squares{};
  Lanes weights{};
  Lanes along{};
  for (std::size_t i = 0; i < part.size(); ++i) {
    const Lanes w = part.weight(i);
    const Lanes q = code_on(w, grid, steps);
    const Lanes h = weighted ? part.importance(i) : all(1.0F);
    count += h;
    codes += h * q;
    squares += h * q * q;
    weights += h * w;
    along += h * q * w;
  }
  const Lanes scale = (count * along - codes * weights) * inverse(count * squares - codes * codes);
  const Lanes kept = larger(scale, Lanes{});
  const Lanes offset = (weights - kept * codes) * inverse(count);
  return {offset * weights + kept * along, {kept, offset}};
}

template <bool weighted>
Line search_line(const Part& part, std::span<const float> spans, int refits, const Range& range) {
  const Lanes middle = (range.low + range.high) * all(0.5F);
  const Lanes half = (range.high - range.low) * all(0.5F);
  LineFit best{all(-1.0F), {}};
  const auto consider = [&](const Line& grid) {
    const LineFit fit = line_of<weighted>(part, grid);
    const Mask better = fit.score > best.score;
    best.score = choose(better, fit.score, best.score);
    best.line.scale = choose(better, fit.line.scale, best.line.scale);
    best.line.offset = choose(better, fit.line.offset, best.line.offset);
  };
  for (const float span : spans) consider({half * all(span * 2.0F / 15.0F), middle - half * all(span)});
  for (int i = 0; i < refits; ++i) consider(Line(best.line));
  return best.line;
}

// Unlike a grid with a zero point, a line need not pass through zero.
Range tight_range_of(const Part& part) {
  Range range{part.weight(0), part.weight(0), Lanes{}};
  for (std::size_t i = 0; i < part.size(); ++i) {
    const Lanes w = part.weight(i);
    range.low = smaller(range.low, w);
    range.high = larger(range.high, w);
    range.zero_or_nan += w * Lanes{};
  }
  return range;
}

bool line_of_four(const Part& part, Effort effort, TileResult& result) {
  const Range range = tight_range_of(part);
  const bool quick = effort == Effort::quick;
  const std::span<const float> spans =
      quick ? std::span<const float>(kQuickSpans) : std::span<const float>(kThoroughSpans);
  const int refits = quick ? 1 : kLineRefits;
  const Line line = part.tile.has_importance ? search_line<true>(part, spans, refits, range)
                                             : search_line<false>(part, spans, refits, range);
  const Lanes steps = inverse(line.scale);
  for (std::size_t i = 0; i < part.size(); ++i) {
    store(result.codes[i] + part.first, code_on(part.weight(i), line, steps));
  }
  store(result.scales + part.first, line.scale);
  store(result.zeros + part.first, line.offset);
  return is_zero(range.zero_or_nan);
}

// To the nearest of 255 steps between minus and plus the largest magnitude.
bool eight_of(const Part& part, TileResult& result) {
  const Range range = range_of(part);
  const Lanes scale = larger(range.high, -range.low) * all(1.0F / 127.0F);
  const Lanes steps = inverse(scale);
  for (std::size_t i = 0; i < part.size(); ++i) {
    store(result.codes[i] + part.first, rounded(part.weight(i) * steps) + all(128.0F));
  }
  store(result.scales + part.first, scale);
  return is_zero(range.zero_or_nan);
}

void four(const Tile& tile, Effort effort, TileResult& result) {
  result.finite = true;
  for (std::size_t first = 0; first < kLanes; first += kWidth) {
    result.finite = four_of({tile, first}, effort, result) && result.finite;
  }
}

void four_offsets(const Tile& tile, Effort effort, TileResult& result) {
  result.finite = true;
  for (std::size_t first = 0; first < kLanes; first += kWidth) {
    result.finite = line_of_four({tile, first}, effort, result) && result.finite;
  }
}

void eight(const Tile& tile, TileResult& result) {
  result.finite = true;
  for (std::size_t first = 0; first < kLanes; first += kWidth) {
    result.finite = eight_of({tile, first}, result) && result.finite;
  }
}

}  // namespace
}  // namespace fastslm::quant
