// Softmax attention over a cache of int16 for any vector instruction set; see linear.inl for how it is
// included.
//
// Queries are rounded to int16 as well, and the weights of a tile to 15 bits, so products are sums of whole
// numbers. They are exact in any order: matrix units may sum up what a single row has from vectors.

constexpr float kShares = 32700.0F;  // sum of the rounded weights of a tile; times kMostWord below 2^31

// Keys and values of a tile, words in pairs as products want them.
struct WordTile {
  std::int32_t* keys;    // [pairs][64], neighbours in a key
  std::int32_t* values;  // [32][wide], the same column of neighbouring keys
  std::size_t pairs;     // of a key
  std::size_t wide;      // head_dim in whole vectors of any set
  std::int64_t start;
  int count;  // of keys that there are
  Ahead next_keys;
  alignas(64) float key_scales[kTileKeys];
  alignas(64) float value_scales[kTileKeys];
};

// Rounded queries [rows][stride] in pairs, and their scales.
struct WordQueries {
  std::int32_t* pairs;
  std::size_t stride;
  float* scales;
};

// Parts of the scratch memory; see kAttendScratch.
struct WordMemory {
  std::size_t padded;  // head_dim, to a multiple of 64
  std::int32_t* tile;
  std::uint8_t* tile_bytes;
  WordQueries queries;
  std::uint8_t* query_bytes;

  WordMemory(const AttentionRows& rows, float* scratch) : padded((rows.head_dim + 63) / 64 * 64) {
    tile = reinterpret_cast<std::int32_t*>(scratch);
    tile_bytes = reinterpret_cast<std::uint8_t*>(tile + kTileKeys * padded);
    std::int32_t* pairs = tile + 2 * kTileKeys * padded;
    query_bytes = reinterpret_cast<std::uint8_t*>(pairs + rows.count * padded / 2);
    float* scales = scratch + 2 * kTileKeys * padded + (rows.count + kGroupRows / 2) * padded;
    queries = {pairs, padded / 2, scales};
  }
};

inline void round_queries(const AttentionRows& rows, const WordQueries& to) {
  for (std::size_t row = 0; row < rows.count; ++row) {
    std::int32_t* pairs = to.pairs + row * to.stride;
    if (rows.head_dim % 2 != 0) pairs[rows.head_dim / 2] = 0;  // half of it remains
    auto* words = reinterpret_cast<std::uint8_t*>(pairs);
    const float scale = round_to_words(rows.queries[row], rows.head_dim, kQueryNorm, words);
    to.scales[row] = scale == 0 ? 1 : scale;  // hidden keys would have -inf * 0;
  }
}

// What becomes of the sums of a vector of columns of a row: scores, or more of the weighted values.
struct ToScores {
  const float* key_scales;
  float* scores;  // [rows][64], still to be multiplied by the scales of the queries

  void operator()(std::size_t row, std::size_t at, Vec::Int sum) const {
    Vec::store(scores + row * kTileKeys + at, Vec::mul(Vec::to_float(sum), Vec::load(key_scales + at)));
  }
};

struct ToValues {
  const float* factors;
  const float* units;  // what a whole number stands for
  float* values;       // [rows][stride]
  std::size_t stride;

  void operator()(std::size_t row, std::size_t at, Vec::Int sum) const {
    float* to = values + row * stride + at;
    const Vec::Float before = Vec::mul(Vec::load(to), Vec::set(factors[row]));
    Vec::store(to, Vec::fma(Vec::to_float(sum), Vec::set(units[row]), before));
  }
};

// Rows [R][a_stride] times columns [depth][b_stride], both in pairs, for N vectors of columns from `at` on.
template <int R, int N, class Finish>
[[gnu::noinline]] const std::uint8_t* dot_pairs(const std::int32_t* a, std::size_t a_stride,
                                                std::size_t depth, const std::int32_t* b,
                                                std::size_t b_stride, std::size_t at, const Finish& finish,
                                                Ahead ahead) {
  Vec::Int sum[index(R)][index(N)] = {};
  for (std::size_t k = 0; k < depth; ++k, ++a, b += b_stride, ahead.from += ahead.stride) {
    fetch(ahead.from, index(N) * kLanes * sizeof(std::int32_t) / 2);
    Vec::Int of_b[index(N)];
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) of_b[n] = Vec::load32(b + at + index(n) * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec::Int of_a = Vec::set32(a[index(r) * a_stride]);
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) sum[r][n] = Vec::dot_pairs(sum[r][n], of_a, of_b[n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) finish(index(r), at + index(n) * kLanes, sum[r][n]);
  }
  return ahead.from;
}

struct PairColumns {
  const std::int32_t* pairs;
  std::size_t stride;
  std::size_t depth;
  std::size_t width;  // a multiple of kLanes
};

template <int R, int N = Vec::strip, class Finish>
inline void dot_strips(const std::int32_t* a, std::size_t a_stride, const PairColumns& b,
                       const Finish& finish, Ahead ahead, std::size_t at = 0) {
  for (; at + index(N) * kLanes <= b.width; at += index(N) * kLanes) {
    ahead.from = dot_pairs<R, N>(a, a_stride, b.depth, b.pairs, b.stride, at, finish, ahead);
  }
  if constexpr (N > 1) {
    ahead.stride /= 2;
    dot_strips<R, N / 2>(a, a_stride, b, finish, ahead, at);
  }
}

template <int R = Vec::attention_rows, class Finish>
inline void dot_rows(int count, const std::int32_t* a, std::size_t a_stride, const PairColumns& b,
                     const Finish& finish, const Ahead& ahead) {
  if constexpr (R > 1) {
    if (count < R) return dot_rows<R - 1>(count, a, a_stride, b, finish, ahead);
  }
  dot_strips<R>(a, a_stride, b, finish, ahead);
}

// Both products by vectors.
class VectorProducts {
 public:
  static constexpr int kMostRows = Vec::attention_rows;

  VectorProducts(const AttentionRows&, const WordMemory& memory) : queries_(memory.queries) {}

  void take(const WordTile&) const {}
  void end() const {}

  void scores(const WordTile& tile, const RowGroup& group, const ToScores& finish) const {
    const std::size_t width = (index(group.end_key) + kLanes - 1) / kLanes * kLanes;
    dot_rows(group.count, queries_.pairs + group.first * queries_.stride, queries_.stride,
             {tile.keys, kTileKeys, tile.pairs, width}, finish, tile.next_keys);
  }

  void values(const WordTile& tile, const RowGroup& group, const std::int32_t (*shares)[kTileKeys / 2],
              const ToValues& finish) const {
    const std::size_t first = index(group.first_key) / 2, end = (index(group.end_key) + 1) / 2;
    const std::size_t half = tile.pairs * tile.next_keys.stride;  // what the scores have fetched
    dot_rows(group.count, shares[0] + first, kTileKeys / 2,
             {tile.values + first * tile.wide, tile.wide, end - first, tile.wide}, finish,
             {tile.next_keys.from + half, tile.next_keys.stride});
  }

 private:
  WordQueries queries_;
};

// Words of values side by side, those of a column of two neighbouring keys; a key beyond the last is zeros.
inline void pair_values(const std::uint8_t* first, const std::uint8_t* second, std::size_t count,
                        std::int32_t* to) {
  by_vectors(count, [&](std::size_t at, std::size_t n) {
    static constexpr std::uint8_t kZeros[kLanes * 2] = {};
    const Padded<2> low(first + 2 * at, n);
    const Padded<2> high(second != nullptr ? second + 2 * at : kZeros, n);
    Vec::store32(to + at, Vec::side_by_side(low.bytes, high.bytes));
  });
}

// Keys and values from `tile.start` on. Values come nearer while keys are turned.
inline void fill(const AttentionRows& rows, WordTile& tile) {
  const std::size_t count = index(tile.count);
  const std::size_t bytes = rows.row_bytes, at = static_cast<std::size_t>(tile.start) * bytes;
  const std::uint8_t* keys = rows.keys + at;
  const std::uint8_t* values = rows.values + at;
  for (std::size_t k = 0; k < kTileKeys; k += kLanes) {
    const std::size_t left = k < count ? count - k : 0;
    fetch(values + k * bytes, kLanes * bytes);
    transpose_some(keys + k * bytes, bytes, left < kLanes ? left : kLanes, tile.pairs,
                   reinterpret_cast<float*>(tile.keys + k));
  }
  tile.next_keys = {keys + kTileKeys * bytes, Vec::strip * kLanes * sizeof(std::int32_t) / 2};
  for (std::size_t k = 0; k < kTileKeys; ++k) {
    tile.key_scales[k] = k < count ? word_scale(keys + k * bytes, rows.head_dim) : 0;
    tile.value_scales[k] = k < count ? word_scale(values + k * bytes, rows.head_dim) : 0;
  }
  for (std::size_t k = 0; k < kTileKeys; k += 2) {
    std::int32_t* pairs = tile.values + k / 2 * tile.wide;
    const std::uint8_t* second = k + 1 < count ? values + (k + 1) * bytes : nullptr;
    if (k < count) {
      pair_values(values + k * bytes, second, rows.head_dim, pairs);
    } else {
      __builtin_memset(pairs, 0, tile.wide * sizeof(std::int32_t));
    }
  }
}

// What the whole numbers stand for that the weights of some rows, times the scales of the values, become:
// those of a row sum up to kShares. `sums` are of weights times scales, in parts.
inline void units_of(const float (*sums)[kTotals], int count, float* units) {
  for (int r = 0; r < count; r += 4) {
    Vec::Float parts[4] = {};
    for (int i = 0; i < 4 && r + i < count; ++i) parts[i] = Vec::load(sums[r + i]);
    Vec::sum_of_each(parts, units + r);
  }
  for (int r = 0; r < count; ++r) units[r] = units[r] <= kLeastScale ? 0 : units[r] * (1 / kShares);
}

inline void share(const float* weights, const float* value_scales, float unit, std::uint8_t* words) {
  const Vec::Float inverse = Vec::set(unit > 0 ? 1 / unit : 0.0F);
#pragma GCC unroll 16
  for (std::size_t i = 0; i < kTileKeys; i += kLanes) {
    const Vec::Float scaled = Vec::mul(Vec::load(weights + i), Vec::load(value_scales + i));
    Vec::narrow_words(words + 2 * i, Vec::round(Vec::mul(scaled, inverse)));
  }
}

template <class Products>
inline void attend_group(const AttentionRows& rows, const RowGroup& group, const WordTile& tile,
                         const WordQueries& queries, const Products& products,
                         const AttentionPartial& state) {
  alignas(64) float scores[index(Products::kMostRows)][kTileKeys];
  alignas(64) float sums[index(Products::kMostRows)][kTotals];
  alignas(64) std::int32_t shares[index(Products::kMostRows)][kTileKeys / 2];
  alignas(64) float factors[kGroupRows] = {};
  float scales[kGroupRows], units[kGroupRows];
  products.scores(tile, group, {tile.key_scales, scores[0]});
  for (int r = 0; r < group.count; ++r) scales[r] = rows.scale * queries.scales[group.first + index(r)];
  soften(scores, group, rows, scales, state, factors, tile.value_scales, sums);
  units_of(sums, group.count, units);
  for (int r = 0; r < group.count; ++r) {
    share(scores[r], tile.value_scales, units[r], reinterpret_cast<std::uint8_t*>(shares[r]));
  }
  products.values(tile, group, shares,
                  {factors, units, state.values + group.first * state.stride, state.stride});
}

template <class Products>
inline void attend_tile(const AttentionRows& rows, WordTile& tile, const WordQueries& queries,
                        const Products& products, const AttentionPartial& state) {
  const std::size_t groups = (rows.count + Products::kMostRows - 1) / Products::kMostRows;
  const int most = static_cast<int>((rows.count + groups - 1) / groups);
  RowGroup group;
  for (std::size_t row = 0; row < rows.count;) {
    row = gather(rows, row, most, tile.start, tile.count, group);
    if (group.count == 0) return;
    attend_group(rows, group, tile, queries, products, state);
    tile.next_keys = {reinterpret_cast<const std::uint8_t*>(tile.keys), 0};
  }
}

template <class Products>
void attend_words(const AttentionRows& rows, std::int64_t first_key, std::int64_t end_key, float* scratch,
                  const AttentionPartial& result, const AttentionPartial& chunk) {
  const WordMemory memory(rows, scratch);
  round_queries(rows, memory.queries);
  const Products products(rows, memory);
  WordTile tile;
  tile.pairs = (rows.head_dim + 1) / 2;
  tile.wide = result.stride;
  tile.keys = memory.tile;
  tile.values = memory.tile + kTileKeys / 2 * memory.padded;
  for_tiles(rows.count, first_key, end_key, result, chunk,
            [&](std::int64_t start, int count, const AttentionPartial& state) {
              tile.start = start;
              tile.count = count;
              fill(rows, tile);
              products.take(tile);
              attend_tile(rows, tile, memory.queries, products, state);
            });
  products.end();
}

void attend(const AttentionRows& rows, std::int64_t first_key, std::int64_t end_key, float* scratch,
            const AttentionPartial& result, const AttentionPartial& chunk) {
  const auto run = rows.format == CacheFormat::int16 ? attend_words<VectorProducts> : attend_floats;
  run(rows, first_key, end_key, scratch, result, chunk);
}
