// Products of rows with two unpacked panels by the matrix units: a strip of 64 columns, whose codes share the
// activations. Builds on tile_amx.inl; included by avx512_amx.cpp only.

// Four inputs of four times 16 columns, from two panels.
struct StripCodes {
  const std::uint8_t* left;
  const std::uint8_t* right;
};

constexpr int kTileSums = kRowsAtOnce * 16;

// 64 inputs of two panels, whose codes share the activations, for 64 columns. What the tiles hold is stored
// to `sums` first, if they are to begin anew: one after the other, because all at once the matrix units would
// wait.
template <bool Signed, bool Begins>
inline void dot_strip(const StripCodes& codes, const std::int8_t* a, std::size_t code_stride,
                      std::int32_t* sums) {
#define FASTSLM_TURN(tile)                           \
  if constexpr (Begins) {                            \
    _tile_stored(tile, sums + tile * kTileSums, 64); \
    _tile_zero(tile);                                \
  }
  _tile_loadd(4, a, code_stride);
  FASTSLM_TURN(0)
  _tile_loadd(5, codes.left, 128);
  FASTSLM_DOT(0, 5)
  FASTSLM_TURN(1)
  _tile_loadd(6, codes.left + 64, 128);
  FASTSLM_DOT(1, 6)
  FASTSLM_TURN(2)
  _tile_loadd(7, codes.right, 128);
  FASTSLM_DOT(2, 7)
  FASTSLM_TURN(3)
  _tile_loadd(5, codes.right + 64, 128);
  FASTSLM_DOT(3, 5)
#undef FASTSLM_TURN
}
#undef FASTSLM_DOT

inline void store_strip(std::int32_t* sums) {
  _tile_stored(0, sums, 64);
  _tile_stored(1, sums + kTileSums, 64);
  _tile_stored(2, sums + 2 * kTileSums, 64);
  _tile_stored(3, sums + 3 * kTileSums, 64);
}

// One group, after what the tiles hold is stored to `before`.
template <bool Signed>
inline void dot_group(const Panel* panels, std::size_t group, const std::int8_t* a, const QuantizedRows& rows,
                      std::int32_t* before) {
  const std::uint8_t* left = panels[0].codes + group * panels[0].group_bytes;
  const std::uint8_t* right = panels[1].codes + group * panels[1].group_bytes;
  dot_strip<Signed, true>({left, right}, a, rows.code_stride, before);
  for (int k = 64; k < rows.group; k += 64) {
    dot_strip<Signed, false>({left + k * 32, right + k * 32}, a + k, rows.code_stride, nullptr);
  }
}

constexpr int kStripGroups = 2;  // most groups of a chunk

// Sums of a chunk of a strip that are still to be scaled and added to rows of y.
struct StripSums {
  const std::int32_t* dots;  // [groups][4][16][16]
  std::size_t group;         // the first
  std::size_t groups;
  std::size_t row;
  int count;
  float* y;
};

// With the operations of add_chunk. What the loop needs is copied, because a compiler that sees tiles stored
// would load it again for every row.
template <int Groups, bool HasStarts, bool HasOffsets>
inline void add_strip(const StripSums& of, const Panel* panels, const QuantizedRows& rows,
                      std::size_t stride) {
  Vec::Float scales[index(Groups)][4], offsets[index(Groups)][4];
#pragma GCC unroll 4
  for (int g = 0; g < Groups; ++g) {
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const std::size_t at = (of.group + index(g)) * 32 + index(c % 2 * 16);
      scales[g][c] = Vec::load(panels[c / 2].scales + at);
      offsets[g][c] = HasOffsets ? Vec::load(panels[c / 2].offsets + at) : Vec::set(0);
    }
  }
  alignas(64) static constexpr float kZeros[64] = {};
  float* y = of.y;
  const float* before = of.group == 0 ? kZeros : y;
  const std::size_t before_stride = of.group == 0 ? 0 : stride;
  const float* a_scales = rows.scales + of.group * rows.stride + of.row;
  const std::int32_t* starts = rows.starts + of.group * rows.stride + of.row;
  const float* sums = rows.sums + of.group * rows.stride + of.row;
  const std::int32_t* dots = of.dots;
  const std::size_t a_stride = rows.stride;
  for (int m = 0; m < of.count; ++m, y += stride, before += before_stride, dots += 16) {
    Vec::Float sum[4];
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) sum[c] = Vec::load(before + c * 16);
#pragma GCC unroll 4
    for (int g = 0; g < Groups; ++g) {
      const Vec::Float scale = Vec::set(a_scales[index(g) * a_stride + index(m)]);
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        Vec::Int dot = Vec::load32(dots + (g * 4 + c) * kTileSums);
        if constexpr (HasStarts) dot = Vec::add32(dot, Vec::set32(starts[index(g) * a_stride + index(m)]));
        sum[c] = Vec::fma(Vec::to_float(dot), Vec::mul(scales[g][c], scale), sum[c]);
        if constexpr (HasOffsets)
          sum[c] = Vec::fma(offsets[g][c], Vec::set(sums[index(g) * a_stride + index(m)]), sum[c]);
      }
    }
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) Vec::store(y + c * 16, sum[c]);
  }
}

// Chunks of so few groups that the codes of one, the sums and y stay in the first level cache. The vectors
// add the sums of a tile of rows to y when those of the next are under way, whose first group has stored the
// last of them.
template <bool Signed, bool HasOffsets>
inline void multiply_strip(const Panel* panels, const QuantizedRows& rows, std::size_t first, int count,
                           float* y, std::size_t stride) {
  alignas(64) std::int32_t dots[2][kStripGroups][4 * kTileSums];
  const RowTiles tiles(count, rows.group);
  constexpr bool starts = !Signed && !HasOffsets;
  StripSums before{};
  const auto add = [&] {
    const auto run = before.groups == 2 ? add_strip<2, starts, HasOffsets> : add_strip<1, starts, HasOffsets>;
    if (before.groups > 0) run(before, panels, rows, stride);
  };
  int turn = 0;
  std::int32_t* last = dots[1][0];
  const std::size_t chunk = rows.group < 128 ? kStripGroups : 1;
  for (std::size_t chunk_start = 0; chunk_start < rows.groups; chunk_start += chunk) {
    const std::size_t groups = chunk_start + chunk < rows.groups ? chunk : rows.groups - chunk_start;
    for (int begin = 0; begin < count; begin += tiles.most, turn ^= 1) {
      const int here = tiles.here(begin), skip = tiles.most - here;
      const std::size_t row = first + index(begin);
      const std::int8_t* a =
          rows.codes + (row - index(skip)) * rows.code_stride + chunk_start * index(rows.group);
      for (std::size_t g = chunk_start; g < chunk_start + groups; ++g, a += rows.group) {
        dot_group<Signed>(panels, g, a, rows, last);
        last = dots[turn][g - chunk_start];
        if (g == chunk_start) add();
      }
      before = {dots[turn][0] + skip * 16, chunk_start, groups, row, here, y + index(begin) * stride};
    }
  }
  store_strip(last);
  add();
}

// No tile stays in use after the call: a switch to another process would save all 8 KiB of them.
template <int Panels>
inline void multiply_in_format(const Panel* panels, const QuantizedRows& rows, std::size_t first, int count,
                               float* y, std::size_t stride) {
  const auto run = [&](auto is_signed, auto has_offsets) {
    if constexpr (Panels == 2) {
      multiply_strip<is_signed.value, has_offsets.value>(panels, rows, first, count, y, stride);
    } else {
      multiply_panel<is_signed.value, has_offsets.value>(panels, rows, first, count, y, stride);
    }
  };
  if (panels->is_signed) {
    run(std::true_type{}, std::false_type{});
  } else if (panels->offsets != nullptr) {
    run(std::false_type{}, std::true_type{});
  } else {
    run(std::false_type{}, std::false_type{});
  }
  _tile_release();
}

// Codes of 8 bits that are made here, from those with steps, are made signed: then nothing has to be added to
// the sums.
Panel unpack_for_tiles(const PackedView& matrix, std::size_t block, const PanelMemory& memory) {
  if (!matrix.has_steps) return unpack(matrix, block, memory);
  return unpack_steps<true>(matrix, matrix.units + block * matrix.groups * matrix.unit_bytes, memory);
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
