// Kernels for AVX-VNNI: as AVX2, with dot products of unsigned by signed bytes.
#include <immintrin.h>

#include "ops/kernels/kernels.hpp"

namespace fastslm::ops {
namespace {

#include "ops/kernels/vec256.inl"

struct Vec : Vec256 {
  template <int>
  static constexpr bool sums_in_16_bits = false;
  // total + step * sum + base * part
  static constexpr int rows_by_parts = 2;  // most rows for which that is faster than codes of 8 bits
  static Int base(const std::uint8_t* p) { return bytes_of_lanes(p); }
  static Int add_stepped(Int total, Int sum, Int step, Int base, Int part) {
    return _mm256_dpwssd_avx_epi32(_mm256_add_epi32(total, _mm256_mullo_epi32(step, sum)), base, part);
  }
  template <int>
  static Int dot(Int sum, Int codes, Int a) {
    return _mm256_dpbusd_avx_epi32(sum, codes, a);
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

constexpr Kernels kTable{12,        kTileRows,    0,      false,         quantize, sum_parts,
                         remainder, multiply_few, unpack, multiply_tile, add,      put,
                         put_gated, rms_norm,     dots,   store_row,     attend,   merge};

}  // namespace

const Kernels& avx_vnni_kernels() { return kTable; }

}  // namespace fastslm::ops
