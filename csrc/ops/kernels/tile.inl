// Products of rows with an unpacked panel, for the vector instruction sets. Builds on panel.inl.
//
// A chunk of the inputs is done for all rows of a call before the next: its codes are read from the second
// level cache once, and stay in the first.

constexpr int kTileRows = 8 * Vec::tile_rows;  // that one call shares the codes of a panel with
constexpr std::size_t kChunkInputs = 512;      // whose codes stay in the first level cache

enum class Beside { nothing, offsets, steps };  // what lies beside the codes of a panel

struct GroupRange {
  std::size_t first;
  std::size_t end;
};

// Calls step(range) for the groups of one chunk after the other.
template <class Step>
inline void for_chunks(const QuantizedRows& rows, const Step& step) {
  const std::size_t most = kChunkInputs / index(rows.group);
  for (std::size_t g = 0; g < rows.groups; g += most) {
    step(GroupRange{g, g + most < rows.groups ? g + most : rows.groups});
  }
}

// sum += dot products of 32 inputs with the bytes of a panel, see panel32.
template <int M, int Bits>
inline void panel_codes(const std::uint8_t* codes, const std::int8_t* a, std::size_t code_stride,
                        Vec::Int (&sum)[index(M)][kVectors]) {
#pragma GCC unroll 8
  for (int q = 0; q < 8; ++q) {
    Vec::Int bytes[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v)
      bytes[v] = Vec::load_bytes(codes + index(q * 128 + v * Vec::lanes * 4));
    dot4<M, Bits>(bytes, a + index(q * 4), code_stride, sum);
  }
}

// total += dot products of 32 inputs with the bytes of a panel, at the columns and the inputs that `codes`
// points to.
template <int M, int Bits>
inline void panel32(const std::uint8_t* codes, const std::int8_t* a, std::size_t code_stride,
                    Vec::Int (&total)[index(M)][kVectors]) {
  sum32<M, Bits>(total, [&](auto& sum) { panel_codes<M, Bits>(codes, a, code_stride, sum); });
}

// The same for codes with their steps beside them, where these are not codes of 8 bits already.
template <int M, class V = Vec>
inline void stepped_panel32(const Panel& panel, const std::uint8_t* codes, int column, std::size_t part,
                            const std::int8_t* a, const QuantizedRows& rows, std::size_t row,
                            Vec::Int (&total)[index(M)][kVectors]) {
  Vec::Int sum[index(M)][kVectors] = {};
  panel_codes<M, 4>(codes, a, rows.code_stride, sum);
  const auto load = [&](const std::int32_t* values, int v) {
    const std::size_t at = part * 32 + index(column + v * Vec::lanes);
    return V::load_bytes(reinterpret_cast<const std::uint8_t*>(values + at));
  };
  const auto step = [&](int v) { return load(panel.steps, v); };
  const auto base = [&](int v) { return load(panel.bases, v); };
  add_stepped<M>(sum, step, base, rows.parts + part * rows.stride + row, total);
}

// Adds a chunk to kColumns columns from `column` on for M rows of y, or begins them with it. Bits tells how
// large the byte codes may be.
template <int M, int Bits, bool Short, Beside With>
inline void tile_columns(const Panel& panel, const QuantizedRows& rows, GroupRange range, std::size_t row,
                         int column, float* y, std::size_t stride) {
  Vec::Float sum[index(M)][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    const float* from = y + index(m) * stride + index(column);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[m][v] = range.first == 0 ? Vec::set(0) : Vec::load(from + v * Vec::lanes);
    }
  }
  const std::int8_t* a = rows.codes + row * rows.code_stride + range.first * index(rows.group);
  const std::uint8_t* codes = panel.codes + range.first * panel.group_bytes + column * 4;
  for (std::size_t g = range.first; g < range.end; ++g, codes += panel.group_bytes, a += rows.group) {
    const std::size_t i = g * rows.stride + row;
    const std::size_t scale = g * 32 + index(column);
    Vec::Int total[index(M)][kVectors] = {};
    // With offsets, dot products of 4 bits start at zero.
    if constexpr (Bits == 8 || With == Beside::nothing) start_at<M>(rows.starts + i, total);
    const int group = Short ? 32 : rows.group;
    for (int k = 0; k < group; k += 32) {
      if constexpr (With == Beside::steps) {
        const std::size_t part = (g * index(group) + index(k)) / 32;
        stepped_panel32<M>(panel, codes + k * 32, column, part, a + k, rows, row, total);
      } else {
        panel32<M, Bits>(codes + k * 32, a + k, rows.code_stride, total);
      }
    }
    add_scaled<M, kVectors>([&](int m, int v) { return total[m][v]; }, panel.scales + scale, rows.scales + i,
                            sum);
    if constexpr (With == Beside::offsets)
      add_offsets<M, kVectors>(panel.offsets + scale, rows.sums + i, sum);
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    float* to = y + index(m) * stride + index(column);
    Vec::store(to, sum[m][0]);
    Vec::store(to + Vec::lanes, sum[m][1]);
  }
}

template <int Bits, bool Short, Beside With, int M = Vec::tile_rows>
inline void rows_of_chunk(int count, const Panel& panel, const QuantizedRows& rows, GroupRange range,
                          std::size_t first, float* y, std::size_t stride) {
  if constexpr (M > 1) {
    if (count < M) {
      return rows_of_chunk<Bits, Short, With, M - 1>(count, panel, rows, range, first, y, stride);
    }
  }
  for (int column = 0; column < 32; column += kColumns) {
    tile_columns<M, Bits, Short, With>(panel, rows, range, first, column, y, stride);
  }
}

template <int Bits, bool Short, Beside With>
inline void tile_of(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count, float* y,
                    std::size_t stride) {
  const int parts = (count + Vec::tile_rows - 1) / Vec::tile_rows;
  for_chunks(rows, [&](GroupRange range) {
    for (int part = 0; part < parts; ++part) {
      const int begin = count * part / parts;
      const int here = count * (part + 1) / parts - begin;
      rows_of_chunk<Bits, Short, With>(here, panel, rows, range, first + index(begin),
                                       y + index(begin) * stride, stride);
    }
  });
}

template <int Bits, Beside With>
inline void tile_in_format(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count,
                           float* y, std::size_t stride) {
  const auto run = rows.group == 32 ? tile_of<Bits, true, With> : tile_of<Bits, false, With>;
  run(panel, rows, first, count, y, stride);
}

template <class V = Vec>
inline auto stepped_tile() {
  if constexpr (V::template sums_in_16_bits<4>) {
    return &tile_in_format<4, Beside::steps>;
  } else {
    return &tile_in_format<8, Beside::nothing>;
  }
}

void multiply_tile(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count, float* y,
                   std::size_t stride) {
  auto run = panel.bits == 4 ? tile_in_format<4, Beside::nothing> : tile_in_format<8, Beside::nothing>;
  if (panel.offsets != nullptr)
    run = panel.bits == 4 ? tile_in_format<4, Beside::offsets> : tile_in_format<8, Beside::offsets>;
  if (panel.steps != nullptr) run = stepped_tile();
  run(panel, rows, first, count, y, stride);
}
