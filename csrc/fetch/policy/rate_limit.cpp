#include "fetch/policy/rate_limit.hpp"

#include <algorithm>

namespace fastslm {

double RateLimit::reserve(std::uint64_t bytes, double now_s) {
  if (rate_ <= 0) return 0;
  const std::lock_guard lock(mutex_);
  free_from_s_ = std::max(free_from_s_, now_s - kBurstS) + static_cast<double>(bytes) / rate_;
  return std::max(0.0, free_from_s_ - now_s);
}

}  // namespace fastslm
