// Products of rows with an unpacked panel by the matrix units. Builds on tile.inl; strip_amx.inl builds on it
// and has the macro. Included by avx512_amx.cpp only.
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

// Tiles 0 to 3 are sums for 16 columns each: of a strip, or 0 and 1 of even groups of a panel, 2 and 3 of odd
// groups. 4 is activations, 5 to 7 are codes.
constexpr AllTileShapes all_tile_shapes() {
  AllTileShapes all{};
  for (int deep = 0; deep < 2; ++deep) {
    for (int m = 1; m <= kRowsAtOnce; ++m) {
      TileShapes& shapes = all.at[deep][m];
      for (int tile = 0; tile < 8; ++tile) {
        shapes.row_bytes[tile] = static_cast<std::uint16_t>(tile == 4 && deep == 0 ? 32 : 64);
        shapes.rows[tile] = static_cast<std::uint8_t>(tile < 5 ? m : 8 << deep);
      }
    }
  }
  return all;
}

constexpr AllTileShapes kTileShapes = all_tile_shapes();

// Integer sums of a chunk of a panel.
using Dots = std::int32_t[kChunkGroups][2][kRowsAtOnce * 16];

// GCC does not know that a load of a tile reads memory: what is to be read is written before this.
inline void write_before_tiles() { __asm__ volatile("" : : : "memory"); }

// Activations are signed bytes, codes are signed or not.
#define FASTSLM_DOT(sum, codes)  \
  if constexpr (Signed) {        \
    _tile_dpbssd(sum, 4, codes); \
  } else {                       \
    _tile_dpbsud(sum, 4, codes); \
  }

// Calls step() with activations and codes of a group in their tiles, for up to 64 inputs each time.
template <class Step>
inline void for_inputs(const std::uint8_t* codes, const std::int8_t* a, const QuantizedRows& rows,
                       const Step& step) {
  const int depth = rows.group == 32 ? 32 : 64;
  for (int k = 0; k < rows.group; k += depth) {
    _tile_loadd(4, a + k, rows.code_stride);
    _tile_loadd(5, codes + k * 32, 128);
    _tile_loadd(6, codes + k * 32 + 64, 128);
    step();
  }
}

// Sums of the groups of a chunk for all rows of a tile. Those of a group are stored when the next is under
// way.
template <bool Signed>
inline void dot_chunk(const Panel& panel, const QuantizedRows& rows, GroupRange range, std::size_t row,
                      Dots& dots) {
  const std::uint8_t* codes = panel.codes + range.first * panel.group_bytes;
  const std::int8_t* a = rows.codes + row * rows.code_stride + range.first * index(rows.group);
  const std::size_t count = range.end - range.first;
  for (std::size_t g = 0; g < count; g += 2) {
    _tile_zero(0);
    _tile_zero(1);
    for_inputs(codes, a, rows, [] {
      FASTSLM_DOT(0, 5)
      FASTSLM_DOT(1, 6)
    });
    if (g > 0) {
      _tile_stored(2, dots[g - 1][0], 64);
      _tile_stored(3, dots[g - 1][1], 64);
    }
    if (g + 1 < count) {
      _tile_zero(2);
      _tile_zero(3);
      for_inputs(codes + panel.group_bytes, a + rows.group, rows, [] {
        FASTSLM_DOT(2, 5)
        FASTSLM_DOT(3, 6)
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

// Adds a chunk of 16 columns to M rows of y, or begins them with it. The sums of the first group begin at
// `dots`. Those of signed codes and those with offsets start at zero.
template <int M, bool HasStarts, bool HasOffsets>
void add_chunk(const std::int32_t* dots, std::size_t group_dots, const Panel& panel, std::size_t column,
               const QuantizedRows& rows, GroupRange range, std::size_t row, float* y, std::size_t stride) {
  Vec::Float sum[index(M)][1];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) sum[m][0] = range.first == 0 ? Vec::set(0) : Vec::load(y + index(m) * stride);
  for (std::size_t g = range.first; g < range.end; ++g, dots += group_dots) {
    const std::size_t i = g * rows.stride + row;
    const auto total = [&](int m, int) {
      const Vec::Int dot = _mm512_load_si512(dots + m * 16);
      return HasStarts ? Vec::add32(dot, Vec::set32(rows.starts[i + index(m)])) : dot;
    };
    add_scaled<M, 1>(total, panel.scales + g * 32 + column, rows.scales + i, sum);
    if constexpr (HasOffsets) add_offsets<M, 1>(panel.offsets + g * 32 + column, rows.sums + i, sum);
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) Vec::store(y + index(m) * stride, sum[m][0]);
}

template <bool HasStarts, bool HasOffsets, int M = kRowsAtOnce>
inline auto adder_of(int count) {
  if constexpr (M > 1) {
    if (count < M) return adder_of<HasStarts, HasOffsets, M - 1>(count);
  }
  return &add_chunk<M, HasStarts, HasOffsets>;
}

// Rows of `count` in tiles of equal size, of which one shape serves all: the last may begin within the one
// before, whose rows it sums in vain.
struct RowTiles {
  int count;
  int most;

  RowTiles(int rows, int group) : count(rows), most(0) {
    const int parts = (count + kRowsAtOnce - 1) / kRowsAtOnce;
    most = (count + parts - 1) / parts;
    _tile_loadconfig(&kTileShapes.at[group == 32 ? 0 : 1][most]);
    write_before_tiles();
  }
  int here(int begin) const { return begin + most < count ? most : count - begin; }
};

// Chunks outside, so that the codes of one come once from the second level cache.
template <bool Signed, bool HasOffsets>
inline void multiply_panel(const Panel* panels, const QuantizedRows& rows, std::size_t first, int count,
                           float* y, std::size_t stride) {
  alignas(64) Dots dots;
  const RowTiles tiles(count, rows.group);
  for (std::size_t g = 0; g < rows.groups; g += kChunkGroups) {
    const GroupRange range{g, g + kChunkGroups < rows.groups ? g + kChunkGroups : rows.groups};
    for (int begin = 0; begin < count; begin += tiles.most) {
      const int here = tiles.here(begin), skip = tiles.most - here;
      const std::size_t row = first + index(begin);
      dot_chunk<Signed>(panels[0], rows, range, row - index(skip), dots);
      const auto add = adder_of < !Signed && !HasOffsets, HasOffsets > (here);
      for (std::size_t c = 0; c < 2; ++c) {
        add(dots[0][c] + skip * 16, 2 * kRowsAtOnce * 16, panels[0], c * 16, rows, range, row,
            y + index(begin) * stride + c * 16, stride);
      }
    }
  }
}
