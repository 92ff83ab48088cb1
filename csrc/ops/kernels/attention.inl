// Softmax attention over tiles of 64 keys for any vector instruction set; see linear.inl for how it is
// included.
//
// Tiles start at multiples of 64 positions. A row meets its tiles in order and goes through each with the
// same operations whatever the other rows are: products sum over one dimension after the other, masked keys
// count as zero, and a tile that a row does not see at all leaves it alone. So prefill, chunks and decoding
// give the same bits.

constexpr int kTileKeys = 64;
constexpr float kNothing = -3.0e38F;          // below every score
constexpr float kHidden = -__builtin_inff();  // what a key is given that a row does not see: its weight is 0
constexpr int kRoom = (Vec::attention_rows + Vec::lanes - 1) / Vec::lanes * Vec::lanes;

inline void fetch(const std::uint8_t* from, std::size_t bytes) {
#pragma GCC unroll 4
  for (std::size_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line, 0, 2);
}

// Memory that somebody reads soon: each step of a product fetches half as many bytes of it as the product
// reads itself. With stride 0 it is the same ones again, which costs nothing.
struct Ahead {
  const std::uint8_t* from;
  std::size_t stride;
};

// Rows of sums, and factors of what they are before something is added; without factors they start at zero.
struct RowSums {
  float* values;
  std::size_t stride;
  const float* factors;
};

// C[r][0 .. N vectors) = factors[r] * C[r][...] + sum over k of a[r][k] * B[k][...]. With Partial the last
// vector has `last` lanes. Returns what is left ahead.
template <int R, int N, bool Partial>
[[gnu::noinline]] const std::uint8_t* multiply_add(const float* const* a, std::size_t depth, const float* b,
                                                   std::size_t b_stride, const RowSums& c, int last,
                                                   Ahead ahead) {
  Vec::Float sum[index(R)][index(N)];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const float* before = c.values + index(r) * c.stride + index(n * Vec::lanes);
      sum[r][n] = c.factors != nullptr ? Vec::mul(Vec::load(before), Vec::set(c.factors[r])) : Vec::set(0);
    }
  }
  for (std::size_t k = 0; k < depth; ++k, b += b_stride, ahead.from += ahead.stride) {
    fetch(ahead.from, index(N) * kLanes * sizeof(float) / 2);
    Vec::Float of_b[index(N)];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      const bool is_cut = Partial && n == N - 1;
      of_b[n] = is_cut ? Vec::load_first(b + n * Vec::lanes, last) : Vec::load(b + n * Vec::lanes);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec::Float of_a = Vec::set(a[r][k]);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[r][n] = Vec::fma(of_a, of_b[n], sum[r][n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      Vec::store(c.values + index(r) * c.stride + index(n * Vec::lanes), sum[r][n]);
    }
  }
  return ahead.from;
}

struct Matrix {
  const float* values;
  std::size_t stride;
  std::size_t depth;
  std::size_t width;
};

// The same for the columns of B from `at` on, in strips of N vectors and then of fewer. C has room for whole
// vectors.
template <int R, int N = Vec::strip>
inline void multiply_strips(const float* const* a, const Matrix& b, const RowSums& c, Ahead ahead,
                            std::size_t at = 0) {
  constexpr std::size_t kWidth = index(N) * kLanes;
  const auto sums = [&] { return RowSums{c.values + at, c.stride, c.factors}; };
  for (; at + kWidth <= b.width; at += kWidth) {
    ahead.from = multiply_add<R, N, false>(a, b.depth, b.values + at, b.stride, sums(), 0, ahead);
  }
  if constexpr (N > 1) {
    ahead.stride /= 2;
    multiply_strips<R, N / 2>(a, b, c, ahead, at);
  } else if (at < b.width) {
    const int last = static_cast<int>(b.width - at);
    multiply_add<R, 1, true>(a, b.depth, b.values + at, b.stride, sums(), last, ahead);
  }
}

template <int R = Vec::attention_rows>
inline void multiply_rows(int count, const float* const* a, const Matrix& b, const RowSums& c,
                          const Ahead& ahead) {
  if constexpr (R > 1) {
    if (count < R) return multiply_rows<R - 1>(count, a, b, c, ahead);
  }
  multiply_strips<R>(a, b, c, ahead);
}

// Up to kLanes keys [count][head_dim] become kLanes columns of [head_dim][64]; those beyond `count` are
// zeros.
inline void transpose_some(const float* keys, std::size_t count, std::size_t head_dim, float* to) {
  const std::size_t whole = count == kLanes ? head_dim / kLanes * kLanes : 0;
  for (std::size_t d = 0; d < whole; d += kLanes) {
    Vec::transpose(keys + d, head_dim, to + d * kTileKeys, kTileKeys);
  }
  for (std::size_t d = whole; d < head_dim; ++d) {
    for (std::size_t i = 0; i < kLanes; ++i) {
      to[d * kTileKeys + i] = i < count ? keys[i * head_dim + d] : 0.0F;
    }
  }
}

// Keys of a tile become [head_dim][64], while its values come nearer. `memory` has room for kLanes keys.
inline void transpose_keys(const AttentionRows& rows, const std::uint8_t* keys, std::size_t count,
                           const std::uint8_t* values, float* memory, float* to) {
  for (std::size_t k = 0; k < kTileKeys; k += kLanes) {
    const std::size_t left = k < count ? count - k : 0;
    const std::size_t here = left < kLanes ? left : kLanes;
    const float* floats = rows_as_floats(rows, keys + k * rows.row_bytes, here, memory);
    fetch(values + k * rows.row_bytes, kLanes * rows.row_bytes);
    transpose_some(floats, here, rows.head_dim, to + k);
  }
}

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
  KeyRange ranges[Vec::attention_rows];
  const float* queries[Vec::attention_rows];
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
inline void adjust(float* scores, float distance, const AttentionRows& rows, std::size_t row) {
  for (int i = 0; i < kTileKeys; i += Vec::lanes) {
    Vec::Float s = Vec::mul(Vec::load(scores + i), Vec::set(rows.scale));
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

// Scores of some rows become weights 2^(score * unit - greatest so far), and `factors` what brings the sums
// of a row to its new greatest score.
inline void soften(float (*scores)[kTileKeys], const RowGroup& group, const AttentionRows& rows,
                   const AttentionPartial& state, float* factors) {
  const bool is_plain = rows.soft_cap <= 0 && rows.slopes == nullptr && rows.scale > 0;
  const float unit = is_plain ? rows.scale * kLog2OfE : kLog2OfE;
  for (int r = 0; r < group.count; ++r) {
    const KeyRange& range = group.ranges[r];
    const std::size_t row = group.first + index(r);
    if (!is_plain) adjust(scores[r], range.distance, rows, row);
    if (range.first > 0 || range.end < kTileKeys) hide(scores[r], range);
    const float before = state.most[row], here = Vec::greatest(greatest_of(scores[r])) * unit;
    state.most[row] = here > before ? here : before;
    factors[r] = before - state.most[row];
  }
  for (int r = 0; r < group.count; r += Vec::lanes) Vec::store(factors + r, power(Vec::load(factors + r)));
  for (int r = 0; r < group.count; ++r) {
    const std::size_t row = group.first + index(r);
    const Vec::Float most = Vec::set(-state.most[row]);
    Vec::Float total = Vec::mul(Vec::load(state.totals + row * kTotals), Vec::set(factors[r]));
#pragma GCC unroll 16
    for (int i = 0; i < kTileKeys; i += Vec::lanes) {
      const Vec::Float weight = power(Vec::fma(Vec::load(scores[r] + i), Vec::set(unit), most));
      Vec::store(scores[r] + i, weight);
      total = Vec::add(total, weight);
    }
    Vec::store(state.totals + row * kTotals, total);
  }
}

// Keys and values of a tile, and the keys that come after it.
struct Tile {
  Matrix keys;  // transposed
  Matrix values;
  std::int64_t start;
  Ahead next_keys;
};

// Scores, weights, weighted values of a few rows. Keys that none of them sees are left out: they would add
// zeros.
inline void attend_group(const AttentionRows& rows, const RowGroup& group, const Tile& tile,
                         const AttentionPartial& state) {
  alignas(64) float scores[Vec::attention_rows][kTileKeys];
  const float* weights[Vec::attention_rows];
  alignas(64) float factors[kRoom] = {};
  Matrix keys = tile.keys;
  keys.width = (index(group.end_key) + kLanes - 1) / kLanes * kLanes;
  multiply_rows(group.count, group.queries, keys, {scores[0], kTileKeys, nullptr}, tile.next_keys);
  soften(scores, group, rows, state, factors);
  for (int r = 0; r < group.count; ++r) weights[r] = scores[r] + group.first_key;
  Matrix values = tile.values;
  values.values += index(group.first_key) * values.stride;
  values.depth = index(group.end_key - group.first_key);
  const RowSums sums{state.values + group.first * state.stride, state.stride, factors};
  multiply_rows(group.count, weights, values, sums,
                {tile.next_keys.from + kTileKeys / 2 * rows.row_bytes, tile.next_keys.stride});
}

// Rows in groups of equal size, because a small one is slow.
inline void attend_tile(const AttentionRows& rows, Tile tile, const AttentionPartial& state) {
  constexpr std::size_t kMost = Vec::attention_rows;
  const std::size_t groups = (rows.count + kMost - 1) / kMost;
  const int most = static_cast<int>((rows.count + groups - 1) / groups);
  const int count = static_cast<int>(tile.values.depth);
  RowGroup group;
  for (std::size_t row = 0; row < rows.count;) {
    row = gather(rows, row, most, tile.start, count, group);
    if (group.count == 0) return;
    attend_group(rows, group, tile, state);
    tile.next_keys = {reinterpret_cast<const std::uint8_t*>(tile.keys.values), 0};
  }
}

void attend(const AttentionRows& rows, std::int64_t first_key, std::int64_t end_key, float* scratch,
            const AttentionPartial& result) {
  for (std::size_t row = 0; row < rows.count; ++row) {
    result.most[row] = kNothing;
    for (std::size_t i = 0; i < kTotals; ++i) result.totals[row * kTotals + i] = 0;
  }
  for (std::size_t i = 0; i < rows.count * result.stride; ++i) result.values[i] = 0;
  float* floats = scratch + kTileKeys * rows.head_dim;
  const std::size_t stride = Vec::strip * kLanes * rows.row_bytes / rows.head_dim / 2;
  for (std::int64_t start = first_key; start < end_key; start += kTileKeys) {
    const auto count = static_cast<std::size_t>(end_key - start < kTileKeys ? end_key - start : kTileKeys);
    const std::uint8_t* keys = rows.keys + static_cast<std::size_t>(start) * rows.row_bytes;
    const std::uint8_t* values = rows.values + static_cast<std::size_t>(start) * rows.row_bytes;
    transpose_keys(rows, keys, count, values, floats, scratch);
    const Tile tile{{scratch, kTileKeys, rows.head_dim, kTileKeys},
                    {rows_as_floats(rows, values, count, floats), rows.head_dim, count, rows.head_dim},
                    start,
                    {keys + kTileKeys * rows.row_bytes, stride}};
    attend_tile(rows, tile, result);
  }
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
