// The search for weight = scale * (step * (code - 8) + base), after search.inl, its groups in lanes too.
//
// A scale that every part of 32 weights could use follows from their ranges. With it each part tries a few
// steps, each from a few bases: they give codes, and the codes a better base. From sums over the codes follow
// the error and the best scale, with which all is done once more. What is judged is what will be stored:
// scales are rounded to float16 first, steps and bases are whole numbers in their range.
#include <vector>

namespace fastslm::quant {
namespace {

constexpr float kLargestHalf = 65504.0F;
constexpr float kSmallestHalf = 0x1p-24F;
constexpr float kMostSteps = 15.0F;

// More starts help most: the error has many local minima.
struct Tries {
  std::span<const float> scales;  // in least scales
  std::span<const float> steps;   // added to the step that spans the range of a part
  std::span<const float> shifts;  // of the base, in steps
  int refits;                     // of the scale
};

constexpr std::array kQuickScales{1.05F};
constexpr std::array kQuickSteps{-2.0F, -1.0F, 0.0F};
constexpr std::array kQuickShifts{0.0F};
constexpr std::array kThoroughScales{1.0F, 1.06F};
constexpr std::array kThoroughSteps{-3.0F, -2.0F, -1.0F, 0.0F, 1.0F};
constexpr std::array kThoroughShifts{-0.3F, 0.0F, 0.3F};
constexpr Tries kQuickTries{kQuickScales, kQuickSteps, kQuickShifts, 1};
constexpr Tries kThoroughTries{kThoroughScales, kThoroughSteps, kThoroughShifts, 2};

// To a number of float16 above zero; what is beyond them stays.
Lanes as_half(Lanes value) {
  const Lanes high = value * all(8193.0F);  // as Veltkamp splits: 11 of 24 places are left
  const Lanes normal = high - (high - value);
  const Lanes small = (value + all(0.75F)) - all(0.75F);
  const Lanes half = larger(choose(value < all(0x1p-14F), small, normal), all(kSmallestHalf));
  return choose(value > all(kLargestHalf), value, half);
}

// The nearest base with which all codes stay in a signed byte.
Lanes base_within(Lanes base, Lanes step) {
  const Lanes near = rounded(smaller(larger(base, all(-128.0F)), all(127.0F)));
  return smaller(larger(near, step * all(8.0F) - all(128.0F)), all(127.0F) - step * all(7.0F));
}

// One part of a group, and what does not depend on codes: the sums of importance, and of it times weights.
struct Tread {
  Part part;
  Range range{};
  Lanes count{};
  Lanes per_count{};
  Lanes weights{};
};

// A step and a base of a part. With v = step * q + base for the codes q - 8 that they were made for, a scale
// takes scale * (2 * along - scale * norm) off the sum of squares.
struct Stair {
  Lanes step{};
  Lanes base{};
  Lanes along{};  // <w, v>
  Lanes norm{};   // <v, v>
  Lanes score = all(-1.0F);

  void take(Mask better, const Stair& other) {
    step = choose(better, other.step, step);
    base = choose(better, other.base, base);
    along = choose(better, other.along, along);
    norm = choose(better, other.norm, norm);
    score = choose(better, other.score, score);
  }
};

struct Scale {
  Lanes value{};
  Lanes units{};  // how many of it are in 1

  explicit Scale(Lanes wanted) : value(as_half(wanted)), units(inverse(value)) {}
};

// Where on a stair a weight lies: w * steps - start, rounded.
struct Ruler {
  Lanes steps;
  Lanes start;

  Ruler(const Scale& scale, Lanes step, Lanes base)
      : steps(scale.units * inverse(step)), start(base * inverse(step)) {}
  Lanes code(Lanes w) const { return rounded(smaller(larger(w * steps - start, all(-8.0F)), all(7.0F))); }
};

// The codes for a step and a base, and the base that is best for these codes.
template <bool weighted>
Stair stair_of(const Tread& tread, const Scale& scale, Lanes step, Lanes base) {
  const Ruler ruler(scale, step, base);
  Lanes codes{};
  Lanes squares{};
  Lanes along{};
  for (std::size_t i = 0; i < kStepInputs; ++i) {
    const Lanes w = tread.part.weight(i);
    const Lanes q = ruler.code(w);
    const Lanes hq = weighted ? tread.part.importance(i) * q : q;
    codes += hq;
    squares += hq * q;
    along += hq * w;
  }
  Stair stair{step};
  stair.base = base_within((tread.weights * scale.units - step * codes) * tread.per_count, step);
  stair.along = step * along + stair.base * tread.weights;
  stair.norm = step * step * squares + stair.base * (all(2.0F) * step * codes + stair.base * tread.count);
  stair.score = scale.value * (all(2.0F) * stair.along - scale.value * stair.norm);
  return stair;
}

struct Stairs {
  Scale scale;
  Lanes score{};
  std::array<Stair, kMostParts> parts{};

  // What is better in `other`.
  void take(const Stairs& other, std::size_t count) {
    const Mask better = other.score > score;
    scale.value = choose(better, other.scale.value, scale.value);
    scale.units = choose(better, other.scale.units, scale.units);
    score = choose(better, other.score, score);
    for (std::size_t i = 0; i < count; ++i) parts[i].take(better, other.parts[i]);
  }
};

template <bool weighted>
Tread tread_of(const Part& group, std::size_t index) {
  Tread tread{{group.tile, group.first, index * kStepInputs, kStepInputs}};
  tread.range = tight_range_of(tread.part);
  for (std::size_t i = 0; i < kStepInputs; ++i) {
    const Lanes h = weighted ? tread.part.importance(i) : all(1.0F);
    tread.count += h;
    tread.weights += h * tread.part.weight(i);
  }
  tread.per_count = inverse(tread.count);
  return tread;
}

// The least scale with which the codes of every part can span its range.
Lanes least_scale(std::span<const Tread> treads) {
  Lanes least{};
  for (const Tread& tread : treads) {
    const Range& range = tread.range;
    const Lanes ends = larger(range.low * all(-1.0F / 128.0F), range.high * all(1.0F / 127.0F));
    least = larger(least, larger(ends, (range.high - range.low) * all(1.0F / (15.0F * kMostSteps))));
  }
  return least;
}

// The best step and base for the range of a part.
template <bool weighted>
Stair search_stair(const Tread& tread, const Scale& scale, const Tries& tries) {
  const Lanes wide = (tread.range.high - tread.range.low) * scale.units * all(1.0F / 15.0F);
  const Lanes near = rounded(smaller(wide, all(kMostSteps)));
  const Lanes middle = (tread.range.low + tread.range.high) * scale.units * all(0.5F);
  Stair best;
  const auto consider = [&](Lanes step, Lanes base) {
    const Stair stair = stair_of<weighted>(tread, scale, step, base);
    best.take(stair.score > best.score, stair);
  };
  for (const float more : tries.steps) {
    const Lanes step = smaller(larger(near + all(more), Lanes{}), all(kMostSteps));
    for (const float shift : tries.shifts) {
      consider(step, base_within(middle + step * all(0.5F + shift), step));
    }
  }
  consider(Lanes(best.step), Lanes(best.base));
  return best;
}

// The same steps, with the scale that is best for all parts together, where that is better. A scale beyond
// float16 stays, to be refused: sums may be infinite by then.
template <bool weighted>
void refit(std::span<const Tread> treads, Stairs& best) {
  Lanes along{};
  Lanes norm{};
  for (std::size_t i = 0; i < treads.size(); ++i) {
    along += best.parts[i].along;
    norm += best.parts[i].norm;
  }
  const Mask beyond = best.scale.value > all(kLargestHalf);
  Stairs other{Scale(choose(beyond, best.scale.value, along * inverse(norm)))};
  for (std::size_t i = 0; i < treads.size(); ++i) {
    const Stair& from = best.parts[i];
    other.parts[i] = stair_of<weighted>(treads[i], other.scale, from.step, from.base);
    other.score += other.parts[i].score;
  }
  best.take(other, treads.size());
}

template <bool weighted>
Stairs search_stairs(const Part& group, const Tries& tries) {
  std::vector<Tread> treads;
  for (std::size_t i = 0; i < group.count / kStepInputs; ++i) {
    treads.push_back(tread_of<weighted>(group, i));
  }
  const Lanes least = least_scale(treads);
  Stairs best{Scale(least), all(-1.0F)};
  for (const float factor : tries.scales) {
    Stairs other{Scale(least * all(factor))};
    for (std::size_t i = 0; i < treads.size(); ++i) {
      other.parts[i] = search_stair<weighted>(treads[i], other.scale, tries);
      other.score += other.parts[i].score;
    }
    best.take(other, treads.size());
  }
  for (int i = 0; i < tries.refits; ++i) refit<weighted>(treads, best);
  return best;
}

bool stairs_of(const Part& group, Effort effort, TileResult& result) {
  const Tries& tries = effort == Effort::quick ? kQuickTries : kThoroughTries;
  const Stairs best =
      group.tile.has_importance ? search_stairs<true>(group, tries) : search_stairs<false>(group, tries);
  store(result.scales + group.first, best.scale.value);
  for (std::size_t i = 0; i < group.count / kStepInputs; ++i) {
    store(result.steps[i] + group.first, best.parts[i].step);
    store(result.bases[i] + group.first, best.parts[i].base);
  }
  for (std::size_t i = 0; i < group.count; ++i) {
    const Stair& stair = best.parts[i / kStepInputs];
    const Lanes code = Ruler(best.scale, stair.step, stair.base).code(group.weight(i));
    store(result.codes[i] + group.first, code + all(8.0F));
  }
  return is_zero(range_of(group).zero_or_nan);
}

void four_steps(const Tile& tile, Effort effort, TileResult& result) {
  result.finite = true;
  for (std::size_t first = 0; first < kLanes; first += kWidth) {
    result.finite = stairs_of({tile, first}, effort, result) && result.finite;
  }
}

}  // namespace
}  // namespace fastslm::quant
