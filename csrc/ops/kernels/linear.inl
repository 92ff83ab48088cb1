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
// Bytes ahead of the stream that go to the first level cache, and to the second. Found by measuring; the
// steps of a unit lie far behind its first codes, and are fetched with them.
constexpr std::size_t kNear = 2304;
constexpr std::size_t kFar = 4608;
constexpr std::size_t kFarWithSteps = 8448;

template <std::size_t Far>
inline void prefetch(const std::uint8_t* from) {
  __builtin_prefetch(from + kNear, 0, 3);
  __builtin_prefetch(from + Far, 0, 2);
}

// Bytes from the start of the codes of a group to vector `column` of step `step`: 8 inputs of 4 bits, or 4 of
// 8 bits.
inline std::size_t code_at(int column, int step) { return index(step * 128 + column * Vec::lanes * 4); }

// sum += dot products of the codes of kVectors vectors of columns with four activations of each of M rows.
template <int M, int Bits>
inline void dot4(const Vec::Int (&codes)[kVectors], const std::int8_t* a, std::size_t code_stride,
                 Vec::Int (&sum)[index(M)][kVectors]) {
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m) {
    const Vec::Int four = Vec::four(a + index(m) * code_stride);
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

// Calls step(input, codes) for 32 inputs from `k` on of a packed unit, four at a time, a byte per code. Each
// time a line or two are fetched ahead: more at once would wait for each other, and the more so the more rows
// are at work between. Of the passes that share a line the first fetches it.
template <int Bits, std::size_t Far, class Step>
inline void for_codes(const std::uint8_t* unit, int column, int k, const Step& step) {
  constexpr int kSteps = Bits == 4 ? 4 : 8;
  const std::uint8_t* bytes = unit + code_at(column, k / (32 / kSteps));
#pragma GCC unroll 8
  for (int s = 0; s < kSteps; ++s) {
    const int input = k + s * (32 / kSteps);
#pragma GCC unroll 2
    for (int at = 0; at < kColumns * 4; at += 64) {
      if (column * Vec::lanes * 4 % 64 == 0) prefetch<Far>(bytes + code_at(0, s) + at);
    }
    Vec::Int low[kVectors];
    Vec::Int high[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      low[v] = Vec::load_bytes(bytes + code_at(v, s));
      if constexpr (Bits == 4) {
        high[v] = Vec::high_nibbles(low[v]);
        low[v] = Vec::low_nibbles(low[v]);
      }
    }
    step(input, low);
    if constexpr (Bits == 4) step(input + 4, high);
    __asm__ volatile("");  // or the compiler would bring all that is fetched together
  }
}

// total += dot products of 32 inputs from `k` on, straight from a packed unit.
template <int M, int Bits>
inline void unit32(const std::uint8_t* unit, int column, int k, const std::int8_t* a, std::size_t code_stride,
                   Vec::Int (&total)[index(M)][kVectors]) {
  sum32<M, Bits>(total, [&](auto& sum) {
    for_codes<Bits, kFar>(unit, column, k, [&](int input, auto& codes) {
      dot4<M, Bits>(codes, a + index(input), code_stride, sum);
    });
  });
}

// Where the steps of 32 inputs from `k` on for vector `column` of a unit are, as the low or the high nibbles
// of bytes, and what they stand on.
inline const std::uint8_t* steps_of(const PackedView& matrix, const std::uint8_t* unit, int column, int k) {
  return unit + matrix.steps_at + index(k / 64 * 32 + column * Vec::lanes);
}

inline bool in_high_nibbles(int k) { return k % 64 != 0; }

inline const std::uint8_t* bases_of(const PackedView& matrix, const std::uint8_t* unit, int column, int k) {
  return unit + matrix.bases_at + index(k + column * Vec::lanes);
}

// total += step * sum + base * part for 32 code_stride; `step_of` and `base_of` give those of a vector of
// columns.
template <int M, class V = Vec, class StepOf, class BaseOf>
inline void add_stepped(const Vec::Int (&sum)[index(M)][kVectors], const StepOf& step_of,
                        const BaseOf& base_of, const std::int32_t* parts,
                        Vec::Int (&total)[index(M)][kVectors]) {
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const Vec::Int step = step_of(v);
    const Vec::Int base = base_of(v);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
      total[m][v] = V::add_stepped(total[m][v], sum[m][v], step, base, Vec::set32(parts[m]));
  }
}

// As unit32 for codes with steps, where the sum of the codes is multiplied by the step, and the base by the
// sum of the 32 activations, which is in `parts`.
template <int M, class V = Vec>
inline void stepped_sums32(const PackedView& matrix, const std::uint8_t* unit, int column, int k,
                           const std::int8_t* a, std::size_t code_stride, const std::int32_t* parts,
                           Vec::Int (&total)[index(M)][kVectors]) {
  Vec::Int sum[index(M)][kVectors] = {};
  for_codes<4, kFarWithSteps>(unit, column, k, [&](int input, auto& codes) {
    dot4<M, 4>(codes, a + index(input), code_stride, sum);
  });
  const auto step = [&](int v) { return V::step(steps_of(matrix, unit, column + v, k), in_high_nibbles(k)); };
  const auto base = [&](int v) { return V::base(bases_of(matrix, unit, column + v, k)); };
  add_stepped<M>(sum, step, base, parts, total);
}

// The same where the codes become codes of 8 bits first, which takes longer but is done once for all rows.
template <int M>
inline void stepped_codes32(const PackedView& matrix, const std::uint8_t* unit, int column, int k,
                            const std::int8_t* a, std::size_t code_stride,
                            Vec::Int (&total)[index(M)][kVectors]) {
  Vec::Int step[kVectors];
  Vec::Int base[kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    step[v] = Vec::step_twice(steps_of(matrix, unit, column + v, k), in_high_nibbles(k));
    base[v] = Vec::four_times(bases_of(matrix, unit, column + v, k));
  }
  for_codes<4, kFarWithSteps>(unit, column, k, [&](int input, auto& codes) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) codes[v] = Vec::add_steps(base[v], codes[v], step[v]);
    dot4<M, 8>(codes, a + index(input), code_stride, total);
  });
}

[[maybe_unused]] void sum_parts(std::size_t row, const QuantizedRows& of) {
  const std::int8_t* codes = of.codes + row * of.code_stride;
  for (std::size_t part = 0; part < of.groups * index(of.group) / 32; ++part, codes += 32) {
    std::int32_t sum = 0;
    for (int i = 0; i < 32; ++i) sum += codes[i];
    of.parts[part * of.stride + row] = sum;
  }
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
template <int M, int Bits, int Known, bool HasSteps = false>
inline void few_block(const PackedView& matrix, const std::uint8_t* unit, const QuantizedRows& rows,
                      std::size_t row, float* y, std::size_t stride) {
  alignas(64) float scratch[index(M * 32)];
  float* opaque = scratch;
  __asm__("" : "+r"(opaque) : : "memory");  // keeps the tile in memory, see Sums
  Sums<M> sums(opaque);
  constexpr std::size_t kAhead = HasSteps ? kFarWithSteps : kFar;
  const std::int8_t* a = rows.codes + row * rows.code_stride;
  const int group = Known != 0 ? Known : matrix.group;
  for (std::size_t g = 0; g < matrix.groups; ++g, unit += matrix.unit_bytes, a += group) {
    const std::size_t i = g * rows.stride + row;
    prefetch<kAhead>(unit + matrix.code_bytes);
    if (matrix.has_offsets || HasSteps) prefetch<kAhead>(unit + matrix.code_bytes + 64);
#pragma GCC unroll 2
    for (int pass = 0; pass < kPasses; ++pass) {
      Vec::Int total[index(M)][kVectors];
      start_at<M>(rows.starts + i, total);
      for (int k = 0; k < group; k += 32) {
        if constexpr (HasSteps) {
          if (pass == 0 && k > 0) prefetch<kAhead>(unit + matrix.code_bytes + 64 + index(k * 2));
        }
        if constexpr (HasSteps && M <= Vec::rows_by_parts) {
          const std::int32_t* parts = rows.parts + (g * index(group) + index(k)) / 32 * rows.stride + row;
          stepped_sums32<M>(matrix, unit, pass * kVectors, k, a, rows.code_stride, parts, total);
        } else if constexpr (HasSteps) {
          stepped_codes32<M>(matrix, unit, pass * kVectors, k, a, rows.code_stride, total);
        } else {
          unit32<M, Bits>(unit, pass * kVectors, k, a, rows.code_stride, total);
        }
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
  if constexpr (Bits == 4) {
    if (matrix.has_steps) return few_block<M, Bits, 0, true>(matrix, unit, rows, row, y, stride);
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
