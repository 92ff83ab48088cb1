#include "ops/attention/cache_format.hpp"

namespace fastslm::ops {

std::size_t row_bytes_of(CacheFormat format, std::size_t head_dim) {
  if (format == CacheFormat::f32) return 4 * head_dim;
  if (format == CacheFormat::f16) return 2 * head_dim;
  return head_dim + 2 * ((head_dim + kCacheGroup - 1) / kCacheGroup);
}

std::optional<CacheFormat> format_of(std::size_t row_bytes, std::size_t head_dim) {
  for (const CacheFormat format : {CacheFormat::f32, CacheFormat::f16, CacheFormat::int8}) {
    if (row_bytes_of(format, head_dim) == row_bytes) return format;
  }
  return std::nullopt;
}

}  // namespace fastslm::ops
