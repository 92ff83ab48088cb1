// A block of 32 columns with a byte per code, made once for many rows, and how its sums are scaled. Builds on
// linear.inl.

inline void widen_halves(const std::uint8_t* halves, float* to) {
  for (int i = 0; i < 32; i += Vec::lanes) Vec::store(to + i, Vec::half(halves + i * 2));
}

inline void multiply_32(float* values, const float* factors) {
  for (int i = 0; i < 32; i += Vec::lanes) {
    Vec::store(values + i, Vec::mul(Vec::load(values + i), Vec::load(factors + i)));
  }
}

// Codes of 4 bits become bytes once for all rows.
inline void widen_codes(const std::uint8_t* unit, int group, std::uint8_t* to) {
  for (int step = 0; step < group / 8; ++step) {
    for (int column = 0; column < 32 / Vec::lanes; ++column) {
      const Vec::Int both = Vec::load_bytes(unit + code_at(column, step));
      Vec::store_bytes(to + code_at(column, 2 * step), Vec::low_nibbles(both));
      Vec::store_bytes(to + code_at(column, 2 * step + 1), Vec::high_nibbles(both));
    }
  }
}

constexpr std::size_t kPanelAhead = 4096;  // bytes that are fetched before they become bytes of a panel

// Codes with steps become codes of 8 bits, signed if wanted. All columns of a step in turn, as they lie in
// memory.
template <bool Signed, class V = Vec>
inline void widen_steps(const PackedView& matrix, const std::uint8_t* unit, std::uint8_t* to) {
  constexpr int kAll = 32 / Vec::lanes;
  for (int k = 0; k < matrix.group; k += 32) {
    Vec::Int step[kAll], base[kAll];
#pragma GCC unroll 4
    for (int column = 0; column < kAll; ++column) {
      step[column] = Vec::step_twice(steps_of(matrix, unit, column, k), in_high_nibbles(k));
      base[column] = Vec::four_times(bases_of(matrix, unit, column, k));
      if constexpr (Signed) base[column] = V::flip_signs(base[column]);
    }
    for (int s = k / 8; s < k / 8 + 4; ++s) {
      for (std::size_t line = 0; line < 128; line += 64) {
        __builtin_prefetch(unit + code_at(0, s) + line + kPanelAhead, 0, 2);
      }
#pragma GCC unroll 4
      for (int column = 0; column < kAll; ++column) {
        const Vec::Int both = Vec::load_bytes(unit + code_at(column, s));
        const auto stepped = [&](Vec::Int codes) {
          return Vec::add_steps(base[column], codes, step[column]);
        };
        Vec::store_bytes(to + code_at(column, 2 * s), stepped(Vec::low_nibbles(both)));
        Vec::store_bytes(to + code_at(column, 2 * s + 1), stepped(Vec::high_nibbles(both)));
      }
    }
  }
}

// Steps and bases as `add_stepped` wants them, of one unit.
template <class V = Vec>
inline void copy_steps(const PackedView& matrix, const std::uint8_t* unit, std::int32_t* steps,
                       std::int32_t* bases) {
  const auto put = [](std::int32_t* to, Vec::Int values) {
    V::store_bytes(reinterpret_cast<std::uint8_t*>(to), values);
  };
  for (int k = 0; k < matrix.group; k += 32) {
    for (int column = 0; column < 32 / Vec::lanes; ++column) {
      const int at = k + column * Vec::lanes;
      put(steps + at, V::step(steps_of(matrix, unit, column, k), in_high_nibbles(k)));
      put(bases + at, V::base(bases_of(matrix, unit, column, k)));
    }
  }
}

template <bool Signed, class V = Vec>
inline Panel unpack_steps(const PackedView& matrix, const std::uint8_t* unit, const PanelMemory& memory) {
  const std::size_t inputs = matrix.groups * index(matrix.group);
  const std::size_t wide = index(matrix.group) * 32;
  std::int32_t* bases = memory.steps + inputs;
  for (std::size_t g = 0; g < matrix.groups; ++g, unit += matrix.unit_bytes) {
    widen_halves(unit + matrix.code_bytes, memory.scales + g * 32);
    if constexpr (V::template sums_in_16_bits<4>) {
      const std::size_t at = g * index(matrix.group);
      widen_codes(unit, matrix.group, memory.codes + g * wide);
      copy_steps(matrix, unit, memory.steps + at, bases + at);
    } else {
      widen_steps<Signed>(matrix, unit, memory.codes + g * wide);
    }
  }
  if constexpr (V::template sums_in_16_bits<4>) {
    return {memory.codes, wide, memory.scales, nullptr, 4, memory.steps, bases};
  } else {
    return {memory.codes, wide, memory.scales, nullptr, 8, nullptr, nullptr, Signed};
  }
}

Panel unpack(const PackedView& matrix, std::size_t block, const PanelMemory& memory) {
  const std::uint8_t* first = matrix.units + block * matrix.groups * matrix.unit_bytes;
  if (matrix.has_steps) return unpack_steps<false>(matrix, first, memory);
  const std::size_t wide = index(matrix.group) * 32;
  for (std::size_t g = 0; g < matrix.groups; ++g) {
    const std::uint8_t* unit = first + g * matrix.unit_bytes;
    if (matrix.bits == 4) widen_codes(unit, matrix.group, memory.codes + g * wide);
    widen_halves(unit + matrix.code_bytes, memory.scales + g * 32);
    if (matrix.has_offsets) widen_halves(unit + matrix.code_bytes + 64, memory.offsets + g * 32);
    if (matrix.scales_offsets) multiply_32(memory.offsets + g * 32, memory.scales + g * 32);
  }
  const float* offsets = matrix.has_offsets ? memory.offsets : nullptr;
  if (matrix.bits == 4) return {memory.codes, wide, memory.scales, offsets, 4};
  return {first, matrix.unit_bytes, memory.scales, offsets, 8};
}

// sum = fma(float(total(m, v)), scale of the column * scale of the row, sum), for V vectors of columns.
template <int M, int V, class Total>
inline void add_scaled(const Total& total, const float* scales, const float* a_scales,
                       Vec::Float (&sum)[index(M)][index(V)]) {
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    const Vec::Float scale = Vec::load(scales + v * Vec::lanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      sum[m][v] = Vec::fma(Vec::to_float(total(m, v)), Vec::mul(scale, Vec::set(a_scales[m])), sum[m][v]);
    }
  }
}

template <int M, int V>
inline void add_offsets(const float* offsets, const float* a_sums, Vec::Float (&sum)[index(M)][index(V)]) {
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    const Vec::Float offset = Vec::load(offsets + v * Vec::lanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) sum[m][v] = Vec::fma(offset, Vec::set(a_sums[m]), sum[m][v]);
  }
}
