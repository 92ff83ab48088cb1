// Kernels for AVX2 with FMA and F16C.
#include <immintrin.h>

#include "ops/kernels/kernels.hpp"

namespace fastslm::ops {
namespace {

#include "ops/kernels/vec256.inl"

// Products of unsigned by signed bytes are added in pairs to 16 bits.
//
// Codes of 4 bits: 32 inputs add up to at most 8 * 2 * 15 * 127 = 30480, so they stay in 16 bits until
// `add_pairs`.
// With steps those sums are multiplied by the step as they are widened, and the bases by the sum of the
// activations.
//
// Codes of 8 bits would overflow: their sign moves to the activation (128 * 127 * 2 = 32512 fits) and every
// pair of sums is widened at once. The kernel thus subtracts 128 from the codes itself.
struct Vec : Vec256 {
  template <int Bits>
  static constexpr bool sums_in_16_bits = Bits == 4;
  static constexpr int rows_by_parts = few_at_once;  // all
  static Int step(const std::uint8_t* p, bool high) { return step_twice(p, high); }
  // Bytes at p, one for each column, less 128, in the low 16 bits.
  static Int base(const std::uint8_t* p) {
    const Int wide = _mm256_sub_epi32(bytes_of_lanes(p), _mm256_set1_epi32(128));
    return _mm256_and_si256(wide, _mm256_set1_epi32(0xffff));
  }
  static Int add_stepped(Int total, Int sum, Int step, Int base, Int part) {
    const Int both = _mm256_add_epi32(_mm256_madd_epi16(sum, step), _mm256_madd_epi16(base, part));
    return _mm256_add_epi32(total, both);
  }
  template <int Bits>
  static Int dot(Int sum, Int codes, Int a) {
    if constexpr (Bits == 4) return _mm256_add_epi16(sum, _mm256_maddubs_epi16(codes, a));
    const Int centred = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    const Int pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(centred), _mm256_sign_epi8(a, centred));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

// clang-format off: each builds on the one before
#include "ops/kernels/rows.inl"
#include "ops/kernels/cache.inl"
#include "ops/kernels/softmax.inl"
#include "ops/kernels/attention.inl"
#include "ops/kernels/attention_words.inl"
#include "ops/kernels/linear.inl"
#include "ops/kernels/panel.inl"
#include "ops/kernels/tile.inl"
// clang-format on

constexpr Kernels kTable{12,        kTileRows,    128,    true,          quantize, sum_parts,
                         remainder, multiply_few, unpack, multiply_tile, add,      put,
                         put_gated, rms_norm,     dots,   store_row,     attend,   merge};

}  // namespace

const Kernels& avx2_kernels() { return kTable; }

}  // namespace fastslm::ops
