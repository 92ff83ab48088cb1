// Products of rows with an unpacked panel by the matrix units. Builds on tile.inl; included by
// avx512_amx.cpp only.
//
// The bytes of a panel lie as TDPBUSD wants its second tile: a row of four inputs of 16 columns is 64 bytes.
// The codes of the activations are the first tile as they are. The matrix units sum the integers of some
// groups, then the vectors scale and add these in the order of the other instruction sets: to alternate for
// every group would cost about 20 cycles each time.

constexpr int kRowsAtOnce = 16;          // of a tile
constexpr int kManyRows = 30;            // fewer are faster by vectors
constexpr int kRowsOfCall = 64;          // that share the codes of a panel
constexpr std::size_t kChunkGroups = 8;  // whose integer sums stay in the first level cache

struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

struct AllTileShapes {
  TileShapes at[2][kRowsAtOnce + 1];  // [depth 64][rows]
};

// Tiles 0 and 1 are sums of even groups for 16 columns each, 2 and 3 those of odd groups, 4 is activations, 5
// and 6 are codes.
constexpr AllTileShapes all_tile_shapes() {
  AllTileShapes all{};
  for (int deep = 0; deep < 2; ++deep) {
    for (int m = 1; m <= kRowsAtOnce; ++m) {
      TileShapes& shapes = all.at[deep][m];
      for (int tile = 0; tile < 7; ++tile) {
        shapes.row_bytes[tile] = static_cast<std::uint16_t>(tile == 4 && deep == 0 ? 32 : 64);
        shapes.rows[tile] = static_cast<std::uint8_t>(tile < 5 ? m : 8 << deep);
      }
    }
  }
  return all;
}

constexpr AllTileShapes kTileShapes = all_tile_shapes();

// Integer sums of a chunk.
using Dots = std::int32_t[kChunkGroups][2][kRowsAtOnce * 16];

// Calls step() with activations and codes of a group in their tiles, for up to 64 inputs each time.
template <class Step>
inline void for_inputs(const std::uint8_t* codes, const std::int8_t* a, const QuantizedRows& rows,
                       const Step& step) {
  const int depth = rows.group == 32 ? 32 : 64;
  for (int k = 0; k < rows.group; k += depth) {
    _tile_loadd(4, a + k, rows.inputs);
    _tile_loadd(5, codes + k * 32, 128);
    _tile_loadd(6, codes + k * 32 + 64, 128);
    step();
  }
}

// Sums of the groups of a chunk for all rows of a tile. Those of a group are stored when the next is under
// way.
inline void dot_chunk(const Panel& panel, const QuantizedRows& rows, GroupRange range, std::size_t row,
                      Dots& dots) {
  const std::uint8_t* codes = panel.codes + range.first * panel.group_bytes;
  const std::int8_t* a = rows.codes + row * rows.inputs + range.first * index(rows.group);
  const std::size_t count = range.end - range.first;
  for (std::size_t g = 0; g < count; g += 2) {
    _tile_zero(0);
    _tile_zero(1);
    for_inputs(codes, a, rows, [] {
      _tile_dpbsud(0, 4, 5);
      _tile_dpbsud(1, 4, 6);
    });
    if (g > 0) {
      _tile_stored(2, dots[g - 1][0], 64);
      _tile_stored(3, dots[g - 1][1], 64);
    }
    if (g + 1 < count) {
      _tile_zero(2);
      _tile_zero(3);
      for_inputs(codes + panel.group_bytes, a + rows.group, rows, [] {
        _tile_dpbsud(2, 4, 5);
        _tile_dpbsud(3, 4, 6);
      });
    }
    _tile_stored(0, dots[g][0], 64);
    _tile_stored(1, dots[g][1], 64);
    codes += 2 * panel.group_bytes;
    a += 2 * rows.group;
  }
  if (count % 2 == 0) {
    _tile_stored(2, dots[count - 1][0], 64);
    _tile_stored(3, dots[count - 1][1], 64);
  }
}

// Adds a chunk to M rows of y, or begins them with it. Dot products with offsets start at zero. Their sums
// are at `skip` and on in `dots`.
template <int M, bool HasOffsets>
void add_chunk(const Dots& dots, int skip, const Panel& panel, const QuantizedRows& rows, GroupRange range,
               std::size_t row, float* y, std::size_t stride) {
  for (int column = 0; column < 2; ++column, y += Vec::lanes) {
    Vec::Float sum[index(M)][1];
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) sum[m][0] = range.first == 0 ? Vec::set(0) : Vec::load(y + index(m) * stride);
    for (std::size_t g = range.first; g < range.end; ++g) {
      const std::int32_t* from = dots[g - range.first][column] + skip * 16;
      const std::size_t i = g * rows.count + row;
      const std::size_t scale = g * 32 + index(column * Vec::lanes);
      const auto total = [&](int m, int) {
        const Vec::Int dot = _mm512_load_si512(from + m * 16);
        return HasOffsets ? dot : Vec::add32(dot, Vec::set32(rows.starts[i + index(m)]));
      };
      add_scaled<M, 1>(total, panel.scales + scale, rows.scales + i, sum);
      if constexpr (HasOffsets) add_offsets<M, 1>(panel.offsets + scale, rows.sums + i, sum);
    }
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) Vec::store(y + index(m) * stride, sum[m][0]);
  }
}

template <bool HasOffsets, int M = kRowsAtOnce>
inline auto adder_of(int count) {
  if constexpr (M > 1) {
    if (count < M) return adder_of<HasOffsets, M - 1>(count);
  }
  return &add_chunk<M, HasOffsets>;
}

// Chunks outside, so that the codes of one come once from the second level cache. One shape of tiles serves
// all rows: the last tile may begin within the one before, whose rows it sums in vain.
template <bool HasOffsets>
inline void multiply_chunks(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count,
                            float* y, std::size_t stride) {
  alignas(64) Dots dots;
  const int parts = (count + kRowsAtOnce - 1) / kRowsAtOnce;
  const int most = (count + parts - 1) / parts;
  _tile_loadconfig(&kTileShapes.at[rows.group == 32 ? 0 : 1][most]);
  for (std::size_t g = 0; g < rows.groups; g += kChunkGroups) {
    const GroupRange range{g, g + kChunkGroups < rows.groups ? g + kChunkGroups : rows.groups};
    for (int begin = 0; begin < count; begin += most) {
      const int here = begin + most < count ? most : count - begin;
      const int skip = most - here;
      dot_chunk(panel, rows, range, first + index(begin - skip), dots);
      adder_of<HasOffsets>(here)(dots, skip, panel, rows, range, first + index(begin),
                                 y + index(begin) * stride, stride);
    }
  }
}

// A few rows go through the vectors. No tile stays in use after the call: a switch to another process would
// save all 8 KiB of them.
void multiply_tile_of_many(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count,
                           float* y, std::size_t stride) {
  if (count < kManyRows) {
    return multiply_tile(panel, rows, first, count, y, stride);
  }
  const auto run = panel.offsets != nullptr ? multiply_chunks<true> : multiply_chunks<false>;
  run(panel, rows, first, count, y, stride);
  _tile_release();
}
