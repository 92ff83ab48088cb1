// Products of rows with an unpacked panel, for the vector instruction sets. Builds on linear.inl.

// total += dot products of 32 inputs with the bytes of a panel, at the columns and the inputs that `codes`
// points to.
template <int M, int Bits>
inline void panel32(const std::uint8_t* codes, const std::int8_t* a, std::size_t inputs,
                    Vec::Int (&total)[index(M)][kVectors]) {
  sum32<M, Bits>(total, [&](auto& sum) {
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      Vec::Int bytes[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v)
        bytes[v] = Vec::load_bytes(codes + index(q * 128 + v * Vec::lanes * 4));
      dot4<M, Bits>(bytes, a + index(q * 4), inputs, sum);
    }
  });
}

// kColumns columns from `column` on for M rows of one panel. Bits tells how large the byte codes may be.
template <int M, int Bits, bool Short, bool HasOffsets>
inline void tile_columns(const Panel& panel, const QuantizedRows& rows, std::size_t row, int column, float* y,
                         std::size_t stride) {
  Vec::Float sum[index(M)][kVectors];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[m][v] = Vec::set(0);
  }
  const std::int8_t* a = rows.codes + row * rows.inputs;
  const std::uint8_t* codes = panel.codes + column * 4;
  for (std::size_t g = 0; g < rows.groups; ++g, codes += panel.group_bytes, a += rows.group) {
    const std::size_t i = g * rows.count + row;
    const std::size_t scale = g * 32 + index(column);
    Vec::Int total[index(M)][kVectors];
    start_at<M>(rows.starts + i, total);
    const int group = Short ? 32 : rows.group;
    for (int k = 0; k < group; k += 32) panel32<M, Bits>(codes + k * 32, a + k, rows.inputs, total);
    add_scaled<M, kVectors>([&](int m, int v) { return total[m][v]; }, panel.scales + scale, rows.scales + i,
                            sum);
    if constexpr (HasOffsets) add_offsets<M, kVectors>(panel.offsets + scale, rows.sums + i, sum);
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    float* to = y + index(m) * stride + index(column);
    Vec::store(to, sum[m][0]);
    Vec::store(to + Vec::lanes, sum[m][1]);
  }
}

template <int Bits, bool Short, bool HasOffsets, int M = Vec::tile_rows>
inline void tile_of(int count, const Panel& panel, const QuantizedRows& rows, std::size_t first, float* y,
                    std::size_t stride) {
  if constexpr (M > 1) {
    if (count < M) return tile_of<Bits, Short, HasOffsets, M - 1>(count, panel, rows, first, y, stride);
  }
  for (int column = 0; column < 32; column += kColumns) {
    tile_columns<M, Bits, Short, HasOffsets>(panel, rows, first, column, y, stride);
  }
}

template <int Bits>
inline void tile_in_format(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count,
                           float* y, std::size_t stride) {
  const bool has_offsets = panel.offsets != nullptr;
  const auto run = rows.group == 32
                       ? (has_offsets ? tile_of<Bits, true, true> : tile_of<Bits, true, false>)
                       : (has_offsets ? tile_of<Bits, false, true> : tile_of<Bits, false, false>);
  run(count, panel, rows, first, y, stride);
}

void multiply_tile(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count, float* y,
                   std::size_t stride) {
  if (panel.bits == 4) {
    tile_in_format<4>(panel, rows, first, count, y, stride);
  } else {
    tile_in_format<8>(panel, rows, first, count, y, stride);
  }
}
