// Kernels for NEON with dot products of signed bytes (ARMv8.2).
#include <arm_neon.h>

#include "ops/kernels/kernels.hpp"

namespace fastslm::ops {
namespace {

#include "ops/kernels/vec_neon.inl"

// Codes of 4 bits are signed bytes as they are; those of 8 bits become so by taking 128 away, which the
// kernel thus does itself.
struct Vec : VecNeon {
  template <int Bits>
  static Int dot(Int sum, Int codes, Int a) {
    uint8x16_t bytes = vreinterpretq_u8_s32(codes);
    if constexpr (Bits == 8) bytes = veorq_u8(bytes, vdupq_n_u8(128));
    return vdotq_s32(sum, vreinterpretq_s8_u8(bytes), vreinterpretq_s8_s32(a));
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

constexpr Kernels kTable{12,        kTileRows,    128,    false,         quantize, nullptr,
                         remainder, multiply_few, unpack, multiply_tile, add,      put,
                         put_gated, rms_norm,     dots,   store_row,     attend,   merge};

}  // namespace

const Kernels& neon_dotprod_kernels() { return kTable; }

}  // namespace fastslm::ops
