// Products of rows with an unpacked panel by the matrix units. Builds on linear.inl; included by
// avx512_amx.cpp only.
//
// The bytes of a panel lie as TDPBUSD wants its second tile: a row of four inputs of 16 columns is 64 bytes.
// The codes of the activations are the first tile as they are. The units work on one group while the vectors
// scale the integer sums of the group before and add them, in the order of the other instruction sets.

constexpr int kFewRows = 6;      // so many are faster by vectors
constexpr int kRowsAtOnce = 12;  // whose float sums stay in registers
constexpr int kTileRows = 4 * kRowsAtOnce;
constexpr int kChunkInputs = 512;  // of a panel, which stay in the first level cache for all rows of a call

// What a code of a panel stands for: `centred` ones have lost their zero point and are signed.
enum class Codes { centred, with_starts, with_offsets };

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

// Tiles 0 and 1 are sums, 2 is activations, 3 and 4 are codes of 16 columns each.
constexpr AllTileShapes all_tile_shapes() {
  AllTileShapes all{};
  for (int deep = 0; deep < 2; ++deep) {
    for (int m = 1; m <= kRowsAtOnce; ++m) {
      TileShapes& shapes = all.at[deep][m];
      for (int tile = 0; tile < 5; ++tile) {
        shapes.row_bytes[tile] = static_cast<std::uint16_t>(tile == 2 && deep == 0 ? 32 : 64);
        shapes.rows[tile] = static_cast<std::uint8_t>(tile < 3 ? m : 8 << deep);
      }
    }
  }
  return all;
}

constexpr AllTileShapes kTileShapes = all_tile_shapes();

struct GroupRange {
  std::size_t first;
  std::size_t end;
};

// sums[m][column] = dot products of one group, [rows of the tiles][32].
template <Codes Kind>
inline void dot_tiles(const std::uint8_t* codes, const std::int8_t* a, const QuantizedRows& rows,
                      std::int32_t* sums) {
  const int depth = rows.group == 32 ? 32 : 64;
  _tile_zero(0);
  _tile_zero(1);
  for (int k = 0; k < rows.group; k += depth) {
    _tile_loadd(2, a + k, rows.inputs);
    _tile_loadd(3, codes + k * 32, 128);
    _tile_loadd(4, codes + k * 32 + 64, 128);
    if constexpr (Kind == Codes::centred) {
      _tile_dpbssd(0, 2, 3);
      _tile_dpbssd(1, 2, 4);
    } else {
      _tile_dpbsud(0, 2, 3);
      _tile_dpbsud(1, 2, 4);
    }
  }
  _tile_stored(0, sums, 128);
  _tile_stored(1, sums + 16, 128);
}

template <int M, Codes Kind>
inline void add_dots(const std::int32_t* dots, const Panel& panel, const QuantizedRows& rows,
                     std::size_t group, std::size_t row, Vec::Float (&sum)[index(M)][kVectors]) {
  const std::size_t i = group * rows.count + row;
  const auto total = [&](int m, int v) {
    const Vec::Int dot = _mm512_load_si512(dots + m * 32 + v * Vec::lanes);
    return Kind == Codes::with_starts ? Vec::add32(dot, Vec::set32(rows.starts[i + index(m)])) : dot;
  };
  add_scaled<M>(total, panel.scales + group * 32, rows.scales + i, sum);
  if constexpr (Kind == Codes::with_offsets) add_offsets<M>(panel.offsets + group * 32, rows.sums + i, sum);
}

// Adds the groups of `range` to M rows of y, or begins them.
template <int M, Codes Kind>
void add_groups(const Panel& panel, const QuantizedRows& rows, GroupRange range, std::size_t row, float* y,
                std::size_t stride) {
  Vec::Float sum[index(M)][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[m][v] = range.first == 0 ? Vec::set(0) : Vec::load(y + index(m) * stride + index(v * Vec::lanes));
    }
  }
  alignas(64) std::int32_t dots[2][index(M * 32)];
  const std::uint8_t* codes = panel.codes + range.first * panel.group_bytes;
  const std::int8_t* a = rows.codes + row * rows.inputs + range.first * index(rows.group);
  dot_tiles<Kind>(codes, a, rows, dots[range.first % 2]);
  for (std::size_t g = range.first; g + 1 < range.end; ++g) {
    codes += panel.group_bytes;
    a += rows.group;
    dot_tiles<Kind>(codes, a, rows, dots[(g + 1) % 2]);
    add_dots<M, Kind>(dots[g % 2], panel, rows, g, row, sum);
  }
  add_dots<M, Kind>(dots[(range.end - 1) % 2], panel, rows, range.end - 1, row, sum);
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Vec::store(y + index(m) * stride + index(v * Vec::lanes), sum[m][v]);
  }
}

template <Codes Kind, int M = kRowsAtOnce>
inline auto adder_of(int count) {
  if constexpr (M > 1) {
    if (count < M) return adder_of<Kind, M - 1>(count);
  }
  return &add_groups<M, Kind>;
}

// Chunks of inputs outside, so that the codes of a chunk come once from the second level cache. The rows are
// shared out evenly: there are at most two shapes of tiles.
template <Codes Kind>
inline void multiply_chunks(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count,
                            float* y, std::size_t stride) {
  const int parts = (count + kRowsAtOnce - 1) / kRowsAtOnce;
  const std::size_t step = index(kChunkInputs / rows.group);
  int shaped = 0;
  for (std::size_t g = 0; g < rows.groups; g += step) {
    const GroupRange range{g, g + step < rows.groups ? g + step : rows.groups};
    for (int part = 0; part < parts; ++part) {
      const int begin = count * part / parts;
      const int here = count * (part + 1) / parts - begin;
      if (here != shaped) _tile_loadconfig(&kTileShapes.at[rows.group == 32 ? 0 : 1][here]);
      shaped = here;
      adder_of<Kind>(here)(panel, rows, range, first + index(begin), y + index(begin) * stride, stride);
    }
  }
}

// No tile stays in use after the call: a switch to another process would save all 8 KiB of them.
void multiply_tile(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count, float* y,
                   std::size_t stride) {
  if (panel.offsets != nullptr) {
    multiply_chunks<Codes::with_offsets>(panel, rows, first, count, y, stride);
  } else if (panel.bits == 4) {
    multiply_chunks<Codes::centred>(panel, rows, first, count, y, stride);
  } else {
    multiply_chunks<Codes::with_starts>(panel, rows, first, count, y, stride);
  }
  _tile_release();
}

// Codes of 4 bits without offsets lose their zero point here once for all rows, as if each dot product began
// at its start: integers are exact.
Panel unpack_for_amx(const PackedView& matrix, std::size_t block, const PanelMemory& memory) {
  const Panel panel = unpack(matrix, block, memory);
  if (matrix.bits == 4 && !matrix.has_offsets) {
    const std::size_t bytes = matrix.groups * panel.group_bytes;
    for (std::size_t i = 0; i < bytes; i += 64) {
      const __m512i codes = Vec::load_bytes(memory.codes + i);
      Vec::store_bytes(memory.codes + i, _mm512_sub_epi8(codes, _mm512_set1_epi8(8)));
    }
  }
  return panel;
}
