#include "ops/attention/cache_format.hpp"

#include <cstring>

#include "base/half.hpp"

namespace fastslm::ops {

std::size_t row_bytes_of(CacheFormat format, std::size_t head_dim) {
  if (format == CacheFormat::f32) return 4 * head_dim;
  if (format == CacheFormat::f16) return 2 * head_dim;
  if (format == CacheFormat::int16) return 2 * head_dim + sizeof(float);
  return head_dim + 2 * ((head_dim + kCacheGroup - 1) / kCacheGroup);
}

std::optional<CacheFormat> format_of(std::size_t row_bytes, std::size_t head_dim) {
  for (const CacheFormat format :
       {CacheFormat::f32, CacheFormat::f16, CacheFormat::int16, CacheFormat::int8}) {
    if (row_bytes_of(format, head_dim) == row_bytes) return format;
  }
  return std::nullopt;
}

void load_row(CacheFormat format, const std::uint8_t* row, std::size_t count, float* x) {
  if (format == CacheFormat::f32) {
    std::memcpy(x, row, count * sizeof(float));
  } else if (format == CacheFormat::f16) {
    for (std::size_t i = 0; i < count; ++i) x[i] = float_of_half(row + 2 * i);
  } else if (format == CacheFormat::int16) {
    float scale;
    std::memcpy(&scale, row + 2 * count, sizeof scale);
    for (std::size_t i = 0; i < count; ++i) {
      std::int16_t word;
      std::memcpy(&word, row + 2 * i, sizeof word);
      x[i] = static_cast<float>(word) * scale;
    }
  } else {
    const auto* codes = reinterpret_cast<const std::int8_t*>(row);
    for (std::size_t i = 0; i < count; ++i) {
      x[i] = static_cast<float>(codes[i]) * float_of_half(row + count + i / kCacheGroup * 2);
    }
  }
}

}  // namespace fastslm::ops
