// Softmax attention over tiles of 64 keys for any vector instruction set; see linear.inl for how it is
// included.
//
// Tiles start at multiples of 64 positions. A row meets its tiles in order and goes through each with the
// same operations whatever the other rows are: products sum over one dimension after the other, masked keys
// count as zero, and a tile that a row does not see at all leaves it alone. So prefill, chunks and decoding
// give the same bits.

constexpr int kTileKeys = 64;
constexpr float kNothing = -3.0e38F;  // below every score

// C[r][0 .. N vectors) (+)= sum over k of a[r][k] * B[k][...]. With Partial the last vector has `last` lanes.
template <int R, int N, bool Partial>
inline void multiply_add(const float* const* a, std::size_t depth, const float* b, std::size_t b_stride,
                         float* c, std::size_t c_stride, bool accumulate, int last) {
  Vec::Float sum[index(R)][index(N)];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) {
      sum[r][n] = accumulate ? Vec::load(c + index(r) * c_stride + index(n * Vec::lanes)) : Vec::set(0);
    }
  }
  for (std::size_t k = 0; k < depth; ++k, b += b_stride) {
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
    for (int n = 0; n < N; ++n) Vec::store(c + index(r) * c_stride + index(n * Vec::lanes), sum[r][n]);
  }
}

struct Matrix {
  const float* values;
  std::size_t stride;
  std::size_t depth;
  std::size_t width;
};

// The same for all columns of B, in strips of kStrip vectors. C has room for whole vectors.
template <int R>
inline void multiply_strips(const float* const* a, const Matrix& b, float* c, std::size_t c_stride,
                            bool accumulate) {
  constexpr std::size_t kStrip = Vec::strip;
  std::size_t at = 0;
  for (; at + kStrip * kLanes <= b.width; at += kStrip * kLanes) {
    multiply_add<R, Vec::strip, false>(a, b.depth, b.values + at, b.stride, c + at, c_stride, accumulate, 0);
  }
  for (; at + kLanes <= b.width; at += kLanes) {
    multiply_add<R, 1, false>(a, b.depth, b.values + at, b.stride, c + at, c_stride, accumulate, 0);
  }
  if (at < b.width) {
    const int last = static_cast<int>(b.width - at);
    multiply_add<R, 1, true>(a, b.depth, b.values + at, b.stride, c + at, c_stride, accumulate, last);
  }
}

template <int R = Vec::attention_rows>
inline void multiply_rows(int count, const float* const* a, const Matrix& b, float* c, std::size_t c_stride,
                          bool accumulate) {
  if constexpr (R > 1) {
    if (count < R) return multiply_rows<R - 1>(count, a, b, c, c_stride, accumulate);
  }
  multiply_strips<R>(a, b, c, c_stride, accumulate);
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

// Keys of a tile become [head_dim][64]. `memory` has room for kLanes of them.
inline void transpose_keys(const AttentionRows& rows, const std::uint8_t* keys, std::size_t count,
                           float* memory, float* to) {
  for (std::size_t k = 0; k < kTileKeys; k += kLanes) {
    const std::size_t left = k < count ? count - k : 0;
    const std::size_t here = left < kLanes ? left : kLanes;
    const float* floats = rows_as_floats(rows, keys + k * rows.row_bytes, here, memory);
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

// Scores of one row become weights exp(score - greatest so far); those of keys outside its range become 0.
// What the row has summed so far is scaled to the new greatest score.
inline void soften(float* scores, const KeyRange& range, const AttentionRows& rows, std::size_t row,
                   const AttentionPartial& state) {
  const int first = range.first, end = range.end;
  Vec::Float s[kTileKeys / Vec::lanes];
  Vec::Float most = Vec::set(kNothing);
#pragma GCC unroll 16
  for (int i = 0; i < kTileKeys / Vec::lanes; ++i) {
    s[i] = Vec::mul(Vec::load(scores + i * Vec::lanes), Vec::set(rows.scale));
    if (rows.soft_cap > 0) s[i] = capped(s[i], rows.soft_cap);
    if (rows.slopes != nullptr) {
      const float distance = range.distance + static_cast<float>(i * Vec::lanes);
      s[i] = Vec::add(s[i], linear_bias(rows.slopes[row], distance));
    }
    s[i] = Vec::between(s[i], Vec::set(kNothing), first - i * Vec::lanes, end - i * Vec::lanes);
    most = Vec::max(most, s[i]);
  }
  const float before = state.most[row];
  const float here = Vec::greatest(most);
  const float now = here > before ? here : before;
  Vec::Float sum = Vec::set(0);
#pragma GCC unroll 16
  for (int i = 0; i < kTileKeys / Vec::lanes; ++i) {
    const Vec::Float weight = exponential(Vec::sub(s[i], Vec::set(now)));
    s[i] = Vec::between(weight, Vec::set(0), first - i * Vec::lanes, end - i * Vec::lanes);
    sum = Vec::add(sum, s[i]);
    Vec::store(scores + i * Vec::lanes, s[i]);
  }
  const Vec::Float factor = exponential(Vec::set(before - now));
  float first_lane[Vec::lanes];
  Vec::store(first_lane, factor);
  const float shrink = state.total[row] == 0 ? 0.0F : first_lane[0];
  state.total[row] = state.total[row] * shrink + Vec::sum(sum);
  state.most[row] = now;
  if (shrink == 1.0F) return;
  float* values = state.values + row * state.stride;
  for (std::size_t d = 0; d < state.stride; d += Vec::lanes) {
    Vec::store(values + d, Vec::mul(Vec::load(values + d), Vec::set(shrink)));
  }
}

inline KeyRange visible(const AttentionRows& rows, std::size_t row, std::int64_t start, int keys) {
  const std::int64_t position = rows.positions[row] - start;
  const std::int64_t first = rows.window > 0 ? position - rows.window + 1 : 0;
  const std::int64_t end = position + 1;
  return {static_cast<int>(first < 0      ? 0
                           : first > keys ? keys
                                          : first),
          static_cast<int>(end < 0      ? 0
                           : end > keys ? keys
                                        : end),
          static_cast<float>(-position)};
}

// Rows that see something of a tile, a few at a time: scores, weights, weighted values.
inline void attend_tile(const AttentionRows& rows, const Matrix& keys, const Matrix& values,
                        std::int64_t start, const AttentionPartial& state) {
  alignas(64) float scores[Vec::attention_rows][kTileKeys];
  float* gathered[Vec::attention_rows];
  const int count = static_cast<int>(values.depth);
  for (std::size_t row = 0; row < rows.count;) {
    const float* queries[Vec::attention_rows];
    KeyRange ranges[Vec::attention_rows];
    std::size_t first = row;
    int here = 0;
    // Neighbouring rows only, because their sums are neighbours as well.
    for (; row < rows.count && here < Vec::attention_rows; ++row) {
      const KeyRange range = visible(rows, row, start, count);
      if (range.first >= range.end) {
        if (here > 0) break;
        first = row + 1;
        continue;
      }
      queries[here] = rows.queries[row];
      ranges[here++] = range;
    }
    if (here == 0) break;
    multiply_rows(here, queries, keys, scores[0], kTileKeys, false);
    for (int r = 0; r < here; ++r) {
      soften(scores[r], ranges[r], rows, first + index(r), state);
      gathered[r] = scores[r];
    }
    multiply_rows(here, gathered, values, state.values + first * state.stride, state.stride, true);
  }
}

void attend(const AttentionRows& rows, std::int64_t first_key, std::int64_t end_key, float* scratch,
            const AttentionPartial& result) {
  for (std::size_t row = 0; row < rows.count; ++row) {
    result.most[row] = kNothing;
    result.total[row] = 0;
  }
  for (std::size_t i = 0; i < rows.count * result.stride; ++i) result.values[i] = 0;
  float* floats = scratch + kTileKeys * rows.head_dim;
  for (std::int64_t start = first_key; start < end_key; start += kTileKeys) {
    const auto count = static_cast<std::size_t>(end_key - start < kTileKeys ? end_key - start : kTileKeys);
    const std::size_t at = static_cast<std::size_t>(start) * rows.row_bytes;
    transpose_keys(rows, rows.keys + at, count, floats, scratch);
    const float* values = rows_as_floats(rows, rows.values + at, count, floats);
    attend_tile(rows, {scratch, kTileKeys, rows.head_dim, kTileKeys},
                {values, rows.head_dim, count, rows.head_dim}, start, result);
  }
}

void merge(const AttentionPartial& to, std::size_t to_row, const AttentionPartial& from,
           std::size_t from_row) {
  if (from.total[from_row] == 0) return;
  const float before = to.total[to_row] == 0 ? from.most[from_row] : to.most[to_row];
  const float now = before > from.most[from_row] ? before : from.most[from_row];
  const Vec::Float old_factor = exponential(Vec::set(before - now));
  const Vec::Float new_factor = exponential(Vec::set(from.most[from_row] - now));
  float factors[2][Vec::lanes];
  Vec::store(factors[0], old_factor);
  Vec::store(factors[1], new_factor);
  to.total[to_row] = to.total[to_row] * factors[0][0] + from.total[from_row] * factors[1][0];
  to.most[to_row] = now;
  float* sums = to.values + to_row * to.stride;
  const float* more = from.values + from_row * from.stride;
  for (std::size_t d = 0; d < to.stride; d += Vec::lanes) {
    const Vec::Float kept = Vec::mul(Vec::load(sums + d), old_factor);
    Vec::store(sums + d, Vec::fma(Vec::load(more + d), new_factor, kept));
  }
}
