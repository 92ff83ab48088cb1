#include "check.hpp"
#include "fetch/policy/pace.hpp"
#include "fetch/policy/rate_limit.hpp"

namespace {

using fastslm::crawls;
using fastslm::median;
using fastslm::Pace;
using fastslm::RateLimit;

void the_median_is_the_middle_one() {
  CHECK_EQUAL(median({}), 0.0);
  CHECK_EQUAL(median({7}), 7.0);
  CHECK_EQUAL(median({9, 1, 5}), 5.0);
  CHECK_EQUAL(median({1, 9, 5, 3}), 4.0);
}

void only_beside_others_a_connection_crawls() {
  struct Row {
    double rate, median_rate;
    std::size_t runs;
    bool expected;
  };
  constexpr Row table[] = {
      {1, 100, 3, true}, {14.9, 100, 3, true}, {15, 100, 3, false},  {1, 100, 2, false},
      {0, 100, 8, true}, {0, 0, 8, false},     {100, 100, 8, false},
  };
  for (const Row& row : table) CHECK_EQUAL(crawls(row.rate, row.median_rate, row.runs), row.expected);
}

void a_pace_follows_the_last_seconds() {
  Pace pace(10);
  CHECK(!pace.measured());
  pace.observe(10.1, 5000);  // too soon
  CHECK(!pace.measured());
  pace.observe(11, 1000);
  CHECK_EQUAL(pace.rate(), 1000.0);
  for (int i = 1; i < 10; ++i) pace.observe(11 + i, 1000);
  CHECK(pace.rate() < 10);
}

void slowness_counts_from_its_beginning() {
  Pace pace(0);
  CHECK_EQUAL(pace.slow_for(5, false), 0.0);
  CHECK_EQUAL(pace.slow_for(6, true), 1.0);
  CHECK_EQUAL(pace.slow_for(8, true), 3.0);
  CHECK_EQUAL(pace.slow_for(9, false), 0.0);
}

void a_limit_holds_over_all_connections() {
  RateLimit limit(1000);
  double now_s = 50;
  std::uint64_t bytes = 0;
  while (now_s < 60) {
    bytes += 30;
    now_s += limit.reserve(30, now_s);
  }
  CHECK(bytes > 9900);
  CHECK(bytes < 10'200);
}

void an_idle_moment_is_not_saved_up() {
  RateLimit limit(1000);
  static_cast<void>(limit.reserve(1000, 0));
  CHECK_EQUAL(limit.reserve(100, 100), 0.0);  // a tenth of a second is
  CHECK(limit.reserve(100, 100) > 0.09);
}

void no_limit_is_no_wait() {
  RateLimit none(0);
  CHECK_EQUAL(none.reserve(1'000'000'000, 1), 0.0);
}

}  // namespace

int main() {
  return check::run({{"the median is the middle one", the_median_is_the_middle_one},
                     {"only beside others a connection crawls", only_beside_others_a_connection_crawls},
                     {"a pace follows the last seconds", a_pace_follows_the_last_seconds},
                     {"slowness counts from its beginning", slowness_counts_from_its_beginning},
                     {"a limit holds over all connections", a_limit_holds_over_all_connections},
                     {"an idle moment is not saved up", an_idle_moment_is_not_saved_up},
                     {"no limit is no wait", no_limit_is_no_wait}});
}
