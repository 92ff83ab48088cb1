// When to try again, and how long to wait before. Pure.
#pragma once

#include <fastslm/error.hpp>

namespace fastslm {

struct RetryPolicy {
  unsigned max_attempts = 6;  // in a row without progress
  double backoff_s = 0.5;
  double max_backoff_s = 30;
};

// Whether another attempt may succeed.
bool is_retryable(ErrorCode code) noexcept;

// Seconds to wait after `failures` (1, 2, ...) attempts in a row without progress: full jitter, which is a
// uniform part of an exponentially growing span, and at least what the server asked for. `random` is in [0,
// 1).
double backoff_seconds(const RetryPolicy& policy, unsigned failures, double random, double retry_after_s);

// Whether a server asks for a longer wait than a user would sit through.
bool asks_too_much(const RetryPolicy& policy, double retry_after_s) noexcept;

// Counts attempts in a row that brought nothing.
class Attempts {
 public:
  // Records one failed attempt; the number in a row, at least 1.
  unsigned failed(bool progressed) noexcept { return failures_ = progressed ? 1 : failures_ + 1; }

 private:
  unsigned failures_ = 0;
};

}  // namespace fastslm
