#include "fetch/policy/retry.hpp"

#include <algorithm>
#include <cmath>

namespace fastslm {

bool is_retryable(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::connection_lost:
    case ErrorCode::server_busy:
    case ErrorCode::range_mismatch:
      return true;
    default:
      return false;
  }
}

double backoff_seconds(const RetryPolicy& policy, unsigned failures, double random, double retry_after_s) {
  const int doublings = static_cast<int>(std::clamp(failures, 1U, 64U)) - 1;
  const double span = std::min(policy.max_backoff_s, std::ldexp(policy.backoff_s, doublings));
  return std::max(retry_after_s, random * span);
}

bool asks_too_much(const RetryPolicy& policy, double retry_after_s) noexcept {
  return retry_after_s > 10 * policy.max_backoff_s;
}

}  // namespace fastslm
