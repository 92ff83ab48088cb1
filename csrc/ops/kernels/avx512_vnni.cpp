// Kernels for AVX-512 with VNNI.
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
// clang-format on

constexpr Kernels kTable{Vec::few_at_once, kTileRows,    0,      false,         quantize, sum_parts,
                         remainder,        multiply_few, unpack, multiply_tile, add,      put,
                         put_gated,        rms_norm,     dots,   store_row,     attend,   merge};

}  // namespace

const Kernels& avx512_vnni_kernels() { return kTable; }

}  // namespace fastslm::ops
