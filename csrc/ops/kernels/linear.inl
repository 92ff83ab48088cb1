// Products of packed matrices for any vector instruction set. Included once by each file that defines `Vec`,
// inside an anonymous namespace, so that no two sets share a function.
//
//   y[row][n] = sum over groups g:  float(start + dot(codes of g, activations of g)) * (scale_w * scale_a)
//                                   + offset_w * sum_a   if the matrix has offsets
//
// The integer dot products are exact in any order. The float sum runs over the groups in order with one fused
// multiply-add each, in every function below: that is the law of kernels.hpp.

constexpr int kVectors = 2;  // vectors of columns that a pass keeps in registers
constexpr int kPasses = 32 / (Vec::lanes * kVectors);
constexpr int kColumns = Vec::lanes * kVectors;
constexpr std::size_t kNear = 2304;  // bytes ahead of the stream that go to the first level cache
constexpr std::size_t kFar = 18432;  // and to the second

inline void prefetch(const std::uint8_t* from, std::size_t bytes) {
#pragma GCC unroll 16
  for (std::size_t line = 0; line < bytes; line += 64) {
    __builtin_prefetch(from + kNear + line, 0, 3);
    __builtin_prefetch(from + kFar + line, 0, 2);
  }
}

// Bytes from the start of the codes of a group to vector `column` of step `step` (8 inputs of 4 bits, 4 of 8
// bits).
template <int Bits>
inline std::size_t code_at(int column, int step, int group) {
  const int first = column * Vec::lanes;
  if constexpr (Bits == 4) return index(first / 16 * 8 * group + step * 64 + first % 16 * 4);
  return index(step * 128 + first * 4);
}

// sum += dot products of the codes of kVectors vectors of columns with four activations of each of M rows.
template <int M, int Bits>
inline void dot4(const Vec::Int (&codes)[kVectors], const std::int8_t* a, std::size_t inputs,
                 Vec::Int (&sum)[index(M)][kVectors]) {
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    const Vec::Int four = Vec::four(a + index(m) * inputs);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[m][v] = Vec::dot<Bits>(sum[m][v], codes[v], four);
  }
}

// Calls step(sum) for 32 inputs and adds the result to `total`: in place where the dot product sums in 32
// bits.
template <int M, int Bits, class Step>
inline void sum32(Vec::Int (&total)[index(M)][kVectors], const Step& step) {
  if constexpr (!Vec::sums_in_16_bits<Bits>) {
    step(total);
  } else {
    Vec::Int sum[index(M)][kVectors] = {};
    step(sum);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) total[m][v] = Vec::add_pairs(total[m][v], sum[m][v]);
    }
  }
}

// total += dot products of 32 inputs from `k` on, straight from a packed unit.
template <int M, int Bits>
inline void unit32(const std::uint8_t* unit, int column, int k, int group, const std::int8_t* a,
                   std::size_t inputs, Vec::Int (&total)[index(M)][kVectors]) {
  sum32<M, Bits>(total, [&](auto& sum) {
    constexpr int kSteps = Bits == 4 ? 4 : 8;
#pragma GCC unroll 8
    for (int s = 0; s < kSteps; ++s) {
      const int inputs_done = k + s * (32 / kSteps);
      Vec::Int low[kVectors];
      Vec::Int high[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) {
        low[v] = Vec::load_bytes(unit + code_at<Bits>(column + v, k / (32 / kSteps) + s, group));
        if constexpr (Bits == 4) {
          high[v] = Vec::high_nibbles(low[v]);
          low[v] = Vec::low_nibbles(low[v]);
        }
      }
      dot4<M, Bits>(low, a + index(inputs_done), inputs, sum);
      if constexpr (Bits == 4) dot4<M, Bits>(high, a + index(inputs_done + 4), inputs, sum);
    }
  });
}

template <int M>
inline void start_at(const std::int32_t* starts, Vec::Int (&total)[index(M)][kVectors]) {
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    const Vec::Int start = Vec::set32(starts[m]);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) total[m][v] = start;
  }
}

// Where the float sums of a block live while its groups pass by: in registers for a few rows, else in a
// scratch tile, because a compiler that runs out of registers would spill the integer sums of the inner loop.
template <int M>
struct Sums {
  static constexpr bool kInRegisters = M * 32 / Vec::lanes <= Vec::float_registers;
  Vec::Float values[index(kInRegisters ? M : 1)][kPasses * kVectors];
  float* tile;

  explicit Sums(float* scratch) : tile(scratch) {
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kPasses * kVectors; ++v) put(m, v, Vec::set(0));
    }
  }
  Vec::Float get(int m, int v) const {
    if constexpr (kInRegisters) return values[m][v];
    return Vec::load(tile + m * 32 + v * Vec::lanes);
  }
  void put(int m, int v, Vec::Float value) {
    if constexpr (kInRegisters) {
      values[m][v] = value;
    } else {
      Vec::store(tile + m * 32 + v * Vec::lanes, value);
    }
  }
};

template <int M>
inline void scale_and_add(const Vec::Int (&total)[index(M)][kVectors], const std::uint8_t* scales,
                          const PackedView& matrix, int column, const float* a_scales, const float* a_sums,
                          Sums<M>& sums) {
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const std::uint8_t* at = scales + index((column + v) * Vec::lanes * 2);
    const Vec::Float scale = Vec::half(at);
    Vec::Float offset = matrix.has_offsets ? Vec::half(at + 64) : Vec::set(0);
    if (matrix.scales_offsets) offset = Vec::mul(offset, scale);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      Vec::Float sum = sums.get(m, column + v);
      sum = Vec::fma(Vec::to_float(total[m][v]), Vec::mul(scale, Vec::set(a_scales[m])), sum);
      if (matrix.has_offsets) sum = Vec::fma(offset, Vec::set(a_sums[m]), sum);
      sums.put(m, column + v, sum);
    }
  }
}

// One block of 32 columns for M rows, straight from the packed units. `Known` is the group, or 0: of small
// groups the compiler should know it, because a loop that ends after one round costs its best registers.
template <int M, int Bits, int Known>
inline void few_block(const PackedView& matrix, const std::uint8_t* unit, const QuantizedRows& rows,
                      std::size_t row, float* y, std::size_t stride) {
  alignas(64) float scratch[index(M * 32)];
  float* opaque = scratch;
  __asm__("" : "+r"(opaque) : : "memory");  // keeps the tile in memory, see Sums
  Sums<M> sums(opaque);
  constexpr std::size_t kStepBytes = kColumns * 32 * Bits / 8;  // all at once would wait for each other
  const std::int8_t* a = rows.codes + row * rows.inputs;
  const int group = Known != 0 ? Known : matrix.group;
  for (std::size_t g = 0; g < matrix.groups; ++g, unit += matrix.unit_bytes, a += group) {
    const std::size_t i = g * rows.count + row;
    prefetch(unit + matrix.code_bytes, 64);
    if (matrix.has_offsets) prefetch(unit + matrix.code_bytes + 64, 64);
    const std::uint8_t* ahead = unit;
#pragma GCC unroll 2
    for (int pass = 0; pass < kPasses; ++pass) {
      Vec::Int total[index(M)][kVectors];
      start_at<M>(rows.starts + i, total);
      for (int k = 0; k < group; k += 32) {
        prefetch(ahead, kStepBytes);
        ahead += kStepBytes;
        unit32<M, Bits>(unit, pass * kVectors, k, group, a, rows.inputs, total);
      }
      scale_and_add<M>(total, unit + matrix.code_bytes, matrix, pass * kVectors, rows.scales + i,
                       rows.sums + i, sums);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kPasses * kVectors; ++v) {
      Vec::store(y + index(m) * stride + index(v * Vec::lanes), sums.get(m, v));
    }
  }
}

template <int Bits, int M = Vec::few_at_once>
inline void few_rows_of_block(int count, const PackedView& matrix, const std::uint8_t* unit,
                              const QuantizedRows& rows, std::size_t row, float* y, std::size_t stride) {
  if constexpr (M > 1) {
    if (count < M) return few_rows_of_block<Bits, M - 1>(count, matrix, unit, rows, row, y, stride);
  }
  const auto run = matrix.group == 32   ? few_block<M, Bits, 32>
                   : matrix.group == 64 ? few_block<M, Bits, 64>
                                        : few_block<M, Bits, 0>;
  run(matrix, unit, rows, row, y, stride);
}

void multiply_few(const PackedView& matrix, std::size_t first_block, std::size_t end_block,
                  const QuantizedRows& rows, int count, float* y, std::size_t stride) {
  for (std::size_t block = first_block; block < end_block; ++block) {
    const std::uint8_t* unit = matrix.units + block * matrix.groups * matrix.unit_bytes;
    for (int row = 0; row < count; row += Vec::few_at_once) {
      const int here = count - row < Vec::few_at_once ? count - row : Vec::few_at_once;
      const std::size_t r = index(row);
      float* to = y + r * stride + (block - first_block) * 32;
      if (matrix.bits == 4) {
        few_rows_of_block<4>(here, matrix, unit, rows, r, to, stride);
      } else {
        few_rows_of_block<8>(here, matrix, unit, rows, r, to, stride);
      }
    }
  }
}

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
      const Vec::Int both = Vec::load_bytes(unit + code_at<4>(column, step, group));
      Vec::store_bytes(to + code_at<8>(column, 2 * step, group), Vec::low_nibbles(both));
      Vec::store_bytes(to + code_at<8>(column, 2 * step + 1, group), Vec::high_nibbles(both));
    }
  }
}

Panel unpack(const PackedView& matrix, std::size_t block, const PanelMemory& memory) {
  const std::uint8_t* first = matrix.units + block * matrix.groups * matrix.unit_bytes;
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
