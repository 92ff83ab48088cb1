// The formats of a KV cache, told apart by the bytes of a row.
#pragma once

#include <cstddef>
#include <optional>

#include "ops/kernels/kernels.hpp"

namespace fastslm::ops {

// Bytes of one position of one head.
std::size_t row_bytes_of(CacheFormat format, std::size_t head_dim);

// The format with so many bytes, if there is one; sizes differ from head_dim 3 on.
std::optional<CacheFormat> format_of(std::size_t row_bytes, std::size_t head_dim);

// The numbers of a row that `Kernels::store_row` has written.
void load_row(CacheFormat format, const std::uint8_t* row, std::size_t count, float* x);

}  // namespace fastslm::ops
