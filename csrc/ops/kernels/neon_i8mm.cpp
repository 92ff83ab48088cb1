// Kernels for NEON with the integer matrix extension (ARMv8.6): as NEON dotprod, with dot products of
// unsigned by signed bytes.
#include <arm_neon.h>

#include "ops/kernels/kernels.hpp"

namespace fastslm::ops {
namespace {

#include "ops/kernels/vec_neon.inl"

struct Vec : VecNeon {
  template <int>
  static Int dot(Int sum, Int codes, Int a) {
    return vusdotq_s32(sum, vreinterpretq_u8_s32(codes), vreinterpretq_s8_s32(a));
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

constexpr Kernels kTable{12,        kTileRows,    0,      false,         quantize, nullptr,
                         remainder, multiply_few, unpack, multiply_tile, add,      put,
                         put_gated, rms_norm,     dots,   store_row,     attend,   merge};

}  // namespace

const Kernels& neon_i8mm_kernels() { return kTable; }

}  // namespace fastslm::ops
