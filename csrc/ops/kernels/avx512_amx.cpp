// Kernels for AVX-512 with the matrix units of AMX, for products and attention of many rows; all else is that
// of AVX-512 with VNNI. Intel SDM volume 2, instructions LDTILECFG and TDPBUSD.
#include <type_traits>

#include <immintrin.h>

#include "ops/kernels/kernels.hpp"

namespace fastslm::ops {
namespace {

// clang-format off: each builds on the one before
#include "ops/kernels/vec512.inl"
#include "ops/kernels/rows.inl"
#include "ops/kernels/cache.inl"
#include "ops/kernels/softmax.inl"
#include "ops/kernels/attention.inl"
#include "ops/kernels/attention_words.inl"
#include "ops/kernels/linear.inl"
#include "ops/kernels/panel.inl"
#include "ops/kernels/tile.inl"
#include "ops/kernels/tile_amx.inl"
#include "ops/kernels/strip_amx.inl"
#include "ops/kernels/attention_amx.inl"
// clang-format on

constexpr Kernels kTable{Vec::few_at_once,
                         kRowsOfCall,
                         0,
                         false,
                         quantize,
                         sum_parts,
                         remainder,
                         multiply_few,
                         unpack_for_tiles,
                         multiply_tile_of_many,
                         add,
                         put,
                         put_gated,
                         rms_norm,
                         dots,
                         store_row,
                         attend_many,
                         merge,
                         multiply_pair};

}  // namespace

const Kernels& amx_kernels() { return kTable; }

}  // namespace fastslm::ops
