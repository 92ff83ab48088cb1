// Softmax attention over a cache of float32, float16 or int8 for any vector instruction set; see linear.inl
// for how it is included. Products sum over one dimension after the other, whatever the other rows are.

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

// Up to kLanes rows [count][width] of numbers of 32 bits, `stride` bytes apart, become kLanes columns of
// [width][64]; those beyond `count` are zeros.
inline void transpose_some(const std::uint8_t* rows, std::size_t stride, std::size_t count, std::size_t width,
                           float* to) {
  const bool is_whole = count == kLanes && stride % sizeof(float) == 0;
  const std::size_t whole = is_whole ? width / kLanes * kLanes : 0;
  for (std::size_t d = 0; d < whole; d += kLanes) {
    Vec::transpose(reinterpret_cast<const float*>(rows) + d, stride / sizeof(float), to + d * kTileKeys,
                   kTileKeys);
  }
  for (std::size_t d = whole; d < width; ++d) {
    for (std::size_t i = 0; i < kLanes; ++i) {
      float number = 0;
      if (i < count) __builtin_memcpy(&number, rows + i * stride + d * sizeof number, sizeof number);
      __builtin_memcpy(to + d * kTileKeys + i, &number, sizeof number);
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
    transpose_some(reinterpret_cast<const std::uint8_t*>(floats), rows.head_dim * sizeof(float), here,
                   rows.head_dim, to + k);
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
  alignas(64) float factors[kGroupRows] = {};
  Matrix keys = tile.keys;
  keys.width = (index(group.end_key) + kLanes - 1) / kLanes * kLanes;
  multiply_rows(group.count, group.queries, keys, {scores[0], kTileKeys, nullptr}, tile.next_keys);
  float scales[kGroupRows];
  for (float& scale : scales) scale = rows.scale;
  soften(scores, group, rows, scales, state, factors, nullptr, nullptr);
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

void attend_floats(const AttentionRows& rows, std::int64_t first_key, std::int64_t end_key, float* scratch,
                   const AttentionPartial& result, const AttentionPartial& chunk) {
  float* floats = scratch + kTileKeys * rows.head_dim;
  const std::size_t stride = Vec::strip * kLanes * rows.row_bytes / rows.head_dim / 2;
  for_tiles(rows.count, first_key, end_key, result, chunk,
            [&](std::int64_t start, int count, const AttentionPartial& state) {
              const std::size_t at = static_cast<std::size_t>(start) * rows.row_bytes;
              const std::uint8_t* keys = rows.keys + at;
              const std::uint8_t* values = rows.values + at;
              transpose_keys(rows, keys, index(count), values, floats, scratch);
              const float* of_values = rows_as_floats(rows, values, index(count), floats);
              const Tile tile{{scratch, kTileKeys, rows.head_dim, kTileKeys},
                              {of_values, rows.head_dim, index(count), rows.head_dim},
                              start,
                              {keys + kTileKeys * rows.row_bytes, stride}};
              attend_tile(rows, tile, state);
            });
}
