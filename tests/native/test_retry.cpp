#include "check.hpp"
#include "fetch/policy/retry.hpp"

namespace {

using fastslm::ErrorCode;
using fastslm::RetryPolicy;

constexpr RetryPolicy kPolicy{.max_attempts = 6, .backoff_s = 0.5, .max_backoff_s = 30};

void only_what_may_pass_is_tried_again() {
  for (const ErrorCode code : fastslm::error_codes()) {
    const bool expected = code == ErrorCode::connection_lost || code == ErrorCode::server_busy ||
                          code == ErrorCode::range_mismatch;
    CHECK_EQUAL(fastslm::is_retryable(code), expected);
  }
}

void the_span_doubles_up_to_a_limit() {
  struct Row {
    unsigned failures;
    double random, retry_after_s, expected;
  };
  constexpr Row table[] = {
      {1, 0, 0, 0},
      {1, 1, 0, 0.5},
      {2, 1, 0, 1},
      {3, 1, 0, 2},
      {3, 0.5, 0, 1},
      {7, 1, 0, 30},
      {99, 1, 0, 30},
      {0, 1, 0, 0.5},
      {1, 0.5, 7, 7},
      {9, 0.5, 7, 15},
      {4'000'000'000, 0.5, 0, 15},
  };
  for (const Row& row : table) {
    CHECK_EQUAL(fastslm::backoff_seconds(kPolicy, row.failures, row.random, row.retry_after_s), row.expected);
  }
}

void a_wait_nobody_would_sit_through_is_too_much() {
  CHECK(!fastslm::asks_too_much(kPolicy, 300));
  CHECK(fastslm::asks_too_much(kPolicy, 301));
}

void progress_starts_the_count_anew() {
  fastslm::Attempts attempts;
  CHECK_EQUAL(attempts.failed(false), 1U);
  CHECK_EQUAL(attempts.failed(false), 2U);
  CHECK_EQUAL(attempts.failed(true), 1U);
  CHECK_EQUAL(attempts.failed(false), 2U);
}

}  // namespace

int main() {
  return check::run(
      {{"only what may pass is tried again", only_what_may_pass_is_tried_again},
       {"the span doubles up to a limit", the_span_doubles_up_to_a_limit},
       {"a wait nobody would sit through is too much", a_wait_nobody_would_sit_through_is_too_much},
       {"progress starts the count anew", progress_starts_the_count_anew}});
}
