// Softmax over tiles of 64 keys for any vector instruction set; see linear.inl for how it is included.
//
// Tiles start at multiples of 64 positions. A row meets its tiles in order and goes through each with the
// same operations whatever the other rows are: masked keys count as zero, and a tile that a row does not see
// at all leaves it alone. So prefill, chunks and decoding give the same bits.

constexpr int kTileKeys = 64;
constexpr float kNothing = -3.0e38F;          // below every score
constexpr float kHidden = -__builtin_inff();  // what a key is given that a row does not see: its weight is 0
constexpr int kGroupRows = 16;                // most rows that go through a tile at once

inline Vec::Float capped(Vec::Float score, float soft_cap) {
  // soft_cap * tanh(score / soft_cap), tanh(u) = 1 - 2 / (1 + exp(2u))
  const Vec::Float grown = exponential(Vec::mul(score, Vec::set(2.0F / soft_cap)));
  const Vec::Float part = Vec::div(Vec::set(2.0F), Vec::add(Vec::set(1.0F), grown));
  return Vec::mul(Vec::set(soft_cap), Vec::sub(Vec::set(1.0F), part));
}

// The keys of a tile that a row sees, [first, end), and the position of the tile less that of the row.
struct KeyRange {
  int first;
  int end;
  float distance;
};

// What a row with a slope adds to the scores of a vector of keys, of which the first is so far from it.
inline Vec::Float linear_bias(float slope, float distance) {
  alignas(64) static constexpr float kCount[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return Vec::mul(Vec::add(Vec::load(kCount), Vec::set(distance)), Vec::set(slope));
}

inline int within(std::int64_t x, int most) { return x < 0 ? 0 : x > most ? most : static_cast<int>(x); }

inline KeyRange visible(const AttentionRows& rows, std::size_t row, std::int64_t start, int keys) {
  const std::int64_t position = rows.positions[row] - start;
  const std::int64_t first = rows.window > 0 ? position - rows.window + 1 : 0;
  return {within(first, keys), within(position + 1, keys), static_cast<float>(-position)};
}

// Neighbouring rows that see something of a tile; neighbours, because their sums are.
struct RowGroup {
  std::size_t first;
  int count;
  int first_key;  // that any of them sees
  int end_key;
  KeyRange ranges[kGroupRows];
  const float* queries[kGroupRows];
};

// The next rows that see something, from `row` on and at most `most`. Returns where it stopped.
inline std::size_t gather(const AttentionRows& rows, std::size_t row, int most, std::int64_t start, int keys,
                          RowGroup& group) {
  group.count = 0;
  group.first_key = keys;
  group.end_key = 0;
  for (; row < rows.count && group.count < most; ++row) {
    const KeyRange range = visible(rows, row, start, keys);
    if (range.first >= range.end) {
      if (group.count > 0) break;
      continue;
    }
    if (group.count == 0) group.first = row;
    if (range.first < group.first_key) group.first_key = range.first;
    if (range.end > group.end_key) group.end_key = range.end;
    group.queries[group.count] = rows.queries[row];
    group.ranges[group.count++] = range;
  }
  return row;
}

// 2^t for t of at most 0; what a float cannot hold with all its digits is 0. Relative error below 2e-7.
inline Vec::Float power(Vec::Float t) {
  t = Vec::max(Vec::set(-127.0F), t);
  const Vec::Int whole = Vec::round(t);
  const Vec::Float p = power_of_part(Vec::sub(t, Vec::to_float(whole)));
  return Vec::mul(p, Vec::power_of_two(whole));
}

// Scores with their scale, cap and bias.
inline void adjust(float* scores, float scale, float distance, const AttentionRows& rows, std::size_t row) {
  for (int i = 0; i < kTileKeys; i += Vec::lanes) {
    Vec::Float s = Vec::mul(Vec::load(scores + i), Vec::set(scale));
    if (rows.soft_cap > 0) s = capped(s, rows.soft_cap);
    if (rows.slopes != nullptr) {
      s = Vec::add(s, linear_bias(rows.slopes[row], distance + static_cast<float>(i)));
    }
    Vec::store(scores + i, s);
  }
}

// Keys outside the range lose their scores, if they have any yet.
inline void hide(float* scores, const KeyRange& range) {
  for (int i = 0; i < kTileKeys; i += Vec::lanes) {
    Vec::Float s = Vec::set(kHidden);
    if (i < range.end) s = Vec::between(Vec::load(scores + i), s, range.first - i, range.end - i);
    Vec::store(scores + i, s);
  }
}

inline Vec::Float greatest_of(const float* scores) {
  Vec::Float most = Vec::load(scores);
#pragma GCC unroll 16
  for (int i = Vec::lanes; i < kTileKeys; i += Vec::lanes) most = Vec::max(most, Vec::load(scores + i));
  return most;
}

// The greatest score of each row.
inline void find_greatest(const float (*scores)[kTileKeys], int count, float* greatest) {
  for (int r = 0; r < count; r += 4) {
    Vec::Float most[4] = {};
    for (int i = 0; i < 4 && r + i < count; ++i) most[i] = greatest_of(scores[r + i]);
    Vec::greatest_of_each(most, greatest + r);
  }
}

// Scores of some rows, to be multiplied by `scales`, become weights 2^(score * unit - greatest so far), and
// `factors` what brings the sums of a row to its new greatest score. With value scales, the sums of the
// weights times these become kLanes parts of `scaled`.
inline void soften(float (*scores)[kTileKeys], const RowGroup& group, const AttentionRows& rows,
                   const float* scales, const AttentionPartial& state, float* factors,
                   const float* value_scales, float (*scaled)[kTotals]) {
  const bool is_plain = rows.soft_cap <= 0 && rows.slopes == nullptr && rows.scale > 0;
  alignas(64) float greatest[kGroupRows];
  float units[kGroupRows];
  for (int r = 0; r < group.count; ++r) {
    const KeyRange& range = group.ranges[r];
    units[r] = is_plain ? scales[r] * kLog2OfE : kLog2OfE;
    if (!is_plain) adjust(scores[r], scales[r], range.distance, rows, group.first + index(r));
    if (range.first > 0 || range.end < kTileKeys) hide(scores[r], range);
  }
  find_greatest(scores, group.count, greatest);
  for (int r = 0; r < group.count; ++r) {
    const std::size_t row = group.first + index(r);
    const float before = state.most[row], here = greatest[r] * units[r];
    state.most[row] = here > before ? here : before;
    factors[r] = before - state.most[row];
  }
  for (int r = 0; r < group.count; r += Vec::lanes) Vec::store(factors + r, power(Vec::load(factors + r)));
  for (int r = 0; r < group.count; ++r) {
    const std::size_t row = group.first + index(r);
    const Vec::Float most = Vec::set(-state.most[row]), unit = Vec::set(units[r]);
    Vec::Float total = Vec::mul(Vec::load(state.totals + row * kTotals), Vec::set(factors[r]));
    Vec::Float sum = Vec::set(0);
#pragma GCC unroll 16
    for (int i = 0; i < kTileKeys; i += Vec::lanes) {
      const Vec::Float weight = power(Vec::fma(Vec::load(scores[r] + i), unit, most));
      Vec::store(scores[r] + i, weight);
      total = Vec::add(total, weight);
      if (value_scales != nullptr) sum = Vec::fma(weight, Vec::load(value_scales + i), sum);
    }
    Vec::store(state.totals + row * kTotals, total);
    if (value_scales != nullptr) Vec::store(scaled[r], sum);
  }
}

// No keys yet.
inline void clear(std::size_t count, const AttentionPartial& sums) {
  for (std::size_t row = 0; row < count; ++row) {
    sums.most[row] = kNothing;
    for (std::size_t i = 0; i < kTotals; ++i) sums.totals[row * kTotals + i] = 0;
  }
  for (std::size_t i = 0; i < count * sums.stride; ++i) sums.values[i] = 0;
}

void merge(const AttentionPartial& to, std::size_t to_row, const AttentionPartial& from,
           std::size_t from_row) {
  const float before = to.most[to_row], more = from.most[from_row];
  const float now = before > more ? before : more;
  const Vec::Float old_factor = power(Vec::set(before - now)), new_factor = power(Vec::set(more - now));
  const auto add = [&](float* sums, const float* others, std::size_t count) {
    for (std::size_t i = 0; i < count; i += kLanes) {
      const Vec::Float kept = Vec::mul(Vec::load(sums + i), old_factor);
      Vec::store(sums + i, Vec::fma(Vec::load(others + i), new_factor, kept));
    }
  };
  to.most[to_row] = now;
  add(to.totals + to_row * kTotals, from.totals + from_row * kTotals, kTotals);
  add(to.values + to_row * to.stride, from.values + from_row * from.stride, to.stride);
}

// Calls step(start, count, state) for the tiles of all chunks of keys, each chunk of which gets sums of its
// own that are merged into `result`.
template <class Step>
inline void for_tiles(std::size_t rows, std::int64_t first_key, std::int64_t end_key,
                      const AttentionPartial& result, const AttentionPartial& chunk, const Step& step) {
  for (std::int64_t first = first_key; first < end_key; first += kChunkKeys) {
    const AttentionPartial& sums = first == first_key ? result : chunk;
    clear(rows, sums);
    const std::int64_t end = first + kChunkKeys < end_key ? first + kChunkKeys : end_key;
    for (std::int64_t start = first; start < end; start += kTileKeys) {
      step(start, within(end - start, kTileKeys), sums);
    }
    if (first == first_key) continue;
    for (std::size_t row = 0; row < rows; ++row) merge(result, row, chunk, row);
  }
}
