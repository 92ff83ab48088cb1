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
constexpr int kStripInputs = 256;        // of a chunk of a strip, whose codes stay there

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

// Integer sums of a chunk of a panel, and of a strip of two panels.
using Dots = std::int32_t[kChunkGroups][2][kRowsAtOnce * 16];
using StripDots = std::int32_t[kStripInputs / 64][4][kRowsAtOnce * 16];

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
    _tile_loadd(4, a + k, rows.inputs);
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
  const std::int8_t* a = rows.codes + row * rows.inputs + range.first * index(rows.group);
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

// The same for two panels, whose codes share the activations. These come from the second level cache: those
// at `next` are fetched for the tile after this one.
template <bool Signed>
inline void dot_strip(const Panel* panels, const QuantizedRows& rows, GroupRange range, const std::int8_t* a,
                      const std::int8_t* next, StripDots& dots) {
  for (std::size_t g = range.first; g < range.end; ++g) {
    const std::uint8_t* left = panels[0].codes + g * panels[0].group_bytes;
    const std::uint8_t* right = panels[1].codes + g * panels[1].group_bytes;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < rows.group; k += 64, a += 64, next += 64) {
      _tile_loadd(4, a, rows.inputs);
      _tile_loadd(5, left + k * 32, 128);
      FASTSLM_DOT(0, 5)
      _tile_loadd(6, left + k * 32 + 64, 128);
      FASTSLM_DOT(1, 6)
      _tile_loadd(7, right + k * 32, 128);
      FASTSLM_DOT(2, 7)
      _tile_loadd(5, right + k * 32 + 64, 128);
      FASTSLM_DOT(3, 5)
#pragma GCC unroll 16
      for (std::size_t r = 0; r < kRowsAtOnce; ++r) __builtin_prefetch(next + r * rows.inputs);
    }
    auto& sums = dots[g - range.first];
    _tile_stored(0, sums[0], 64);
    _tile_stored(1, sums[1], 64);
    _tile_stored(2, sums[2], 64);
    _tile_stored(3, sums[3], 64);
  }
}
#undef FASTSLM_DOT

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

// Chunks outside, so that the codes of one come once from the second level cache. One shape of tiles serves
// all rows: the last tile may begin within the one before, whose rows it sums in vain.
template <int Panels, bool Signed, bool HasOffsets>
inline void multiply_chunks(const Panel* panels, const QuantizedRows& rows, std::size_t first, int count,
                            float* y, std::size_t stride) {
  constexpr bool has_starts = !Signed && !HasOffsets;
  alignas(64) std::conditional_t<Panels == 2, StripDots, Dots> dots;
  const int parts = (count + kRowsAtOnce - 1) / kRowsAtOnce;
  const int most = (count + parts - 1) / parts;
  _tile_loadconfig(&kTileShapes.at[rows.group == 32 ? 0 : 1][most]);
  const std::size_t chunk = Panels == 2 ? index(kStripInputs / rows.group) : kChunkGroups;
  for (std::size_t g = 0; g < rows.groups; g += chunk) {
    const GroupRange range{g, g + chunk < rows.groups ? g + chunk : rows.groups};
    for (int begin = 0; begin < count; begin += most) {
      const int here = begin + most < count ? most : count - begin;
      const int skip = most - here;
      const std::size_t row = first + index(begin);
      if constexpr (Panels == 2) {
        const std::int8_t* a = rows.codes + (row - index(skip)) * rows.inputs + g * index(rows.group);
        dot_strip<Signed>(panels, rows, range, a, a + (begin + most < count ? index(most) : 0) * rows.inputs,
                          dots);
      } else {
        dot_chunk<Signed>(panels[0], rows, range, row - index(skip), dots);
      }
      const auto add = adder_of<has_starts, HasOffsets>(here);
      for (std::size_t c = 0; c < 2 * Panels; ++c) {
        add(dots[0][c] + skip * 16, 2 * Panels * kRowsAtOnce * 16, panels[c / 2], c % 2 * 16, rows, range,
            row, y + index(begin) * stride + c * 16, stride);
      }
    }
  }
}

// No tile stays in use after the call: a switch to another process would save all 8 KiB of them.
template <int Panels>
inline void multiply_in_format(const Panel* panels, const QuantizedRows& rows, std::size_t first, int count,
                               float* y, std::size_t stride) {
  const auto run = panels->is_signed            ? multiply_chunks<Panels, true, false>
                   : panels->offsets != nullptr ? multiply_chunks<Panels, false, true>
                                                : multiply_chunks<Panels, false, false>;
  run(panels, rows, first, count, y, stride);
  _tile_release();
}

// Codes of 8 bits that are made here, from those with steps, are made signed: then nothing has to be added to
// the sums.
Panel unpack_for_tiles(const PackedView& matrix, std::size_t block, const PanelMemory& memory) {
  Panel panel = unpack(matrix, block, memory);
  if (!matrix.has_steps) return panel;
  const std::size_t bytes = matrix.groups * panel.group_bytes;
  const Vec::Int sign = Vec::set32(static_cast<std::int32_t>(0x80808080));
  for (std::size_t i = 0; i < bytes; i += 64) {
    Vec::store_bytes(memory.codes + i, _mm512_xor_si512(Vec::load_bytes(memory.codes + i), sign));
  }
  panel.is_signed = true;
  return panel;
}

inline bool are_many(const Panel& panel, int count) { return panel.is_signed || count >= kManyRows; }

// A few rows go through the vectors, which want unsigned codes.
void multiply_tile_of_many(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count,
                           float* y, std::size_t stride) {
  if (!are_many(panel, count)) return multiply_tile(panel, rows, first, count, y, stride);
  multiply_in_format<1>(&panel, rows, first, count, y, stride);
}

// Groups of 32 are no faster by strips.
void multiply_pair(const Panel* panels, const QuantizedRows& rows, std::size_t first, int count, float* y,
                   std::size_t stride) {
  if (are_many(panels[0], count) && rows.group > 32) {
    return multiply_in_format<2>(panels, rows, first, count, y, stride);
  }
  multiply_tile_of_many(panels[0], rows, first, count, y, stride);
  multiply_tile_of_many(panels[1], rows, first, count, y + 32, stride);
}
