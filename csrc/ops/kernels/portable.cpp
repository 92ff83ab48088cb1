// Kernels in plain C++, for any processor; vectors of four floats through the compiler's vector types.
#include "base/half.hpp"
#include "ops/kernels/kernels.hpp"

namespace fastslm::ops {
namespace {

struct Vec {
  using Float = float __attribute__((vector_size(16)));
  using Int = std::int32_t __attribute__((vector_size(16)));
  static constexpr int lanes = 4;
  static constexpr int attention_rows = 6;
  static constexpr int strip = 2;  // vectors of columns that attention sums at once

  template <class To, class From>
  static To bits(const From& from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    __builtin_memcpy(&to, &from, sizeof to);
    return to;
  }

  static Float set(float x) { return Float{x, x, x, x}; }
  static Float load(const float* p) { return Float{p[0], p[1], p[2], p[3]}; }
  static void store(float* p, Float x) { __builtin_memcpy(p, &x, sizeof x); }
  static Float add(Float a, Float b) { return a + b; }
  static Float sub(Float a, Float b) { return a - b; }
  static Float mul(Float a, Float b) { return a * b; }
  static Float div(Float a, Float b) { return a / b; }
  // a / b for b that is at least 1.
  static Float quotient(Float a, Float b) { return div(a, b); }
  static Float max(Float a, Float b) { return a > b ? a : b; }
  static Float min(Float a, Float b) { return a < b ? a : b; }
  static Float abs(Float a) { return bits<Float>(bits<Int>(a) & set32(0x7fffffff)); }
  static Float fma(Float a, Float b, Float c) { return a * b + c; }
  static float sum(Float a) { return (a[0] + a[2]) + (a[1] + a[3]); }
  static float greatest(Float a) {
    float most = a[0];
    for (int i = 1; i < 4; ++i) most = a[i] > most ? a[i] : most;
    return most;
  }

  static void greatest_of_each(const Float (&a)[4], float* to) {
    for (int i = 0; i < 4; ++i) to[i] = greatest(a[i]);
  }
  static void sum_of_each(const Float (&a)[4], float* to) {
    for (int i = 0; i < 4; ++i) to[i] = sum(a[i]);
  }
  static Float half(const std::uint8_t* p) {
    return Float{float_of_half(p), float_of_half(p + 2), float_of_half(p + 4), float_of_half(p + 6)};
  }
  static Float half_everywhere(const std::uint8_t* p) { return set(float_of_half(p)); }
  static void store_half(std::uint8_t* p, Float a) {
    for (int i = 0; i < 4; ++i) put_half(p + 2 * i, a[i]);
  }
  static Float signed_bytes(const std::uint8_t* p) {
    const auto at = [p](int i) { return static_cast<float>(static_cast<std::int8_t>(p[i])); };
    return Float{at(0), at(1), at(2), at(3)};
  }

  static Int set32(std::int32_t x) { return Int{x, x, x, x}; }
  static Int add32(Int a, Int b) { return a + b; }
  static void sum_of_each(const Int (&a)[4], std::int32_t* to) {
    for (int i = 0; i < 4; ++i) to[i] = a[i][0] + a[i][1] + a[i][2] + a[i][3];
  }
  // Adding 1.5 * 2^23 leaves the nearest whole number in the low bits; good for numbers below 2^22.
  static Int round(Float a) { return bits<Int>(a + set(12582912.0F)) - set32(0x4b400000); }
  static Float to_float(Int a) { return __builtin_convertvector(a, Float); }
  static Float power_of_two(Int n) { return bits<Float>((n + set32(127)) << 23); }
  static Float times_power_of_two(Float a, Int n) { return a * power_of_two(n); }
  static void narrow(std::int8_t* p, Int a) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<std::int8_t>(a[i]);
  }

  static void narrow_words(std::uint8_t* p, Int a) {
    for (int i = 0; i < 4; ++i) {
      p[2 * i] = static_cast<std::uint8_t>(a[i]);
      p[2 * i + 1] = static_cast<std::uint8_t>(a[i] >> 8);
    }
  }
  static Int load32(const std::int32_t* p) {
    Int a;
    __builtin_memcpy(&a, p, sizeof a);
    return a;
  }
  static void store32(std::int32_t* p, Int a) { __builtin_memcpy(p, &a, sizeof a); }
  // Products of pairs of words and their sum.
  static Int dot_pairs(Int sum, Int a, Int b) {
    const Int low = (a << 16 >> 16) * (b << 16 >> 16);
    return sum + low + (a >> 16) * (b >> 16);
  }
  // Words at p and q, one of each in a lane.
  static Int side_by_side(const std::uint8_t* p, const std::uint8_t* q) {
    Int a;
    for (int i = 0; i < 4; ++i) {
      const unsigned low = p[2 * i] | static_cast<unsigned>(p[2 * i + 1]) << 8;
      const unsigned high = q[2 * i] | static_cast<unsigned>(q[2 * i + 1]) << 8;
      a[i] = static_cast<std::int32_t>(low | high << 16);
    }
    return a;
  }

  static Float load_first(const float* p, int n) {
    Float a = set(0);
    for (int i = 0; i < n; ++i) a[i] = p[i];
    return a;
  }
  static void store_first(float* p, Float a, int n) {
    for (int i = 0; i < n; ++i) p[i] = a[i];
  }
  static Float between(Float a, Float b, int first, int end) {
    for (int i = 0; i < 4; ++i) b[i] = i >= first && i < end ? a[i] : b[i];
    return b;
  }
  static void transpose(const float* from, std::size_t from_stride, float* to, std::size_t to_stride) {
    for (std::size_t i = 0; i < 4; ++i) {
      for (std::size_t j = 0; j < 4; ++j) to[j * to_stride + i] = from[i * from_stride + j];
    }
  }
};

// clang-format off: each builds on the one before
#include "ops/kernels/rows.inl"
#include "ops/kernels/cache.inl"
#include "ops/kernels/softmax.inl"
#include "ops/kernels/attention.inl"
#include "ops/kernels/attention_words.inl"
// clang-format on

// Codes of 4 bits of one unit, a byte each; with steps they become codes of 8 bits.
void widen_codes(const PackedView& matrix, const std::uint8_t* unit, std::uint8_t* to) {
  for (std::size_t at = 0; at < matrix.code_bytes; ++at) {
    const std::size_t step = at / 128;
    std::uint8_t* low = to + step * 256 + at % 128;
    low[0] = unit[at] & 15U;
    low[128] = unit[at] >> 4;
    if (!matrix.has_steps) continue;
    const std::size_t part = step / 4, row = at % 128 / 4;
    const unsigned both = unit[matrix.steps_at + part / 2 * 32 + row];
    const unsigned factor = part % 2 == 0 ? both & 15U : both >> 4;
    const unsigned base = unit[matrix.bases_at + part * 32 + row];
    low[0] = static_cast<std::uint8_t>(base + factor * low[0]);
    low[128] = static_cast<std::uint8_t>(base + factor * low[128]);
  }
}

Panel unpack(const PackedView& matrix, std::size_t block, const PanelMemory& memory) {
  const std::uint8_t* first = matrix.units + block * matrix.groups * matrix.unit_bytes;
  const std::size_t wide = static_cast<std::size_t>(matrix.group) * 32;
  for (std::size_t g = 0; g < matrix.groups; ++g) {
    const std::uint8_t* unit = first + g * matrix.unit_bytes;
    if (matrix.bits == 4) widen_codes(matrix, unit, memory.codes + g * wide);
    for (std::size_t n = 0; n < 32; ++n) {
      memory.scales[g * 32 + n] = float_of_half(unit + matrix.code_bytes + n * 2);
      if (matrix.has_offsets)
        memory.offsets[g * 32 + n] = float_of_half(unit + matrix.code_bytes + 64 + n * 2);
      if (matrix.scales_offsets) memory.offsets[g * 32 + n] *= memory.scales[g * 32 + n];
    }
  }
  const float* offsets = matrix.has_offsets ? memory.offsets : nullptr;
  if (matrix.bits == 4) return {memory.codes, wide, memory.scales, offsets, matrix.has_steps ? 8 : 4};
  return {first, matrix.unit_bytes, memory.scales, offsets, 8};
}

void add_group(const std::uint8_t* codes, const std::int8_t* a, int group, std::int32_t* total) {
  for (int k = 0; k < group; k += 4, codes += 128, a += 4) {
    for (std::size_t n = 0; n < 32; ++n) {
      const std::uint8_t* w = codes + n * 4;
      total[n] += w[0] * a[0] + w[1] * a[1] + w[2] * a[2] + w[3] * a[3];
    }
  }
}

void multiply_tile(const Panel& panel, const QuantizedRows& rows, std::size_t first, int count, float* y,
                   std::size_t stride) {
  for (std::size_t m = 0; m < static_cast<std::size_t>(count); ++m) {
    float* sum = y + m * stride;
    for (std::size_t n = 0; n < 32; ++n) sum[n] = 0;
    for (std::size_t g = 0; g < rows.groups; ++g) {
      const std::size_t at = g * rows.stride + first + m;
      std::int32_t total[32];
      for (std::int32_t& each : total) each = rows.starts[at];
      const std::int8_t* a =
          rows.codes + (first + m) * rows.code_stride + g * static_cast<std::size_t>(rows.group);
      add_group(panel.codes + g * panel.group_bytes, a, rows.group, total);
      for (std::size_t n = 0; n < 32; ++n) {
        sum[n] += static_cast<float>(total[n]) * (panel.scales[g * 32 + n] * rows.scales[at]);
        if (panel.offsets != nullptr) sum[n] += panel.offsets[g * 32 + n] * rows.sums[at];
      }
    }
  }
}

constexpr int kTileRows = 4;
constexpr Kernels kTable{0,         kTileRows, 0,      false,         quantize, nullptr,
                         remainder, nullptr,   unpack, multiply_tile, add,      put,
                         put_gated, rms_norm,  dots,   store_row,     attend,   merge};

}  // namespace

const Kernels& portable_kernels() { return kTable; }

}  // namespace fastslm::ops
