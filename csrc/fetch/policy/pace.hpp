// Connections judged by each other: who is so slow that a fresh connection would do better. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace fastslm {

// The rate of one run, smoothed over a few seconds.
class Pace {
 public:
  explicit Pace(double now_s) : since_s_(now_s), slow_since_s_(now_s) {}

  // `bytes` is what the run has received so far. To be called about twice a second.
  void observe(double now_s, std::uint64_t bytes);

  double rate() const noexcept { return rate_; }  // bytes per second, 0 before the first observation
  bool measured() const noexcept { return measured_; }

  // Notes whether the run is slow now; how long it has been without a break.
  double slow_for(double now_s, bool slow);

 private:
  double since_s_;
  std::uint64_t bytes_ = 0;
  double rate_ = 0;
  bool measured_ = false;
  double slow_since_s_;
};

// The middle one, or the mean of the two in the middle; 0 of nothing.
double median(std::vector<double> values);

// Whether a run with this rate crawls beside others of which at least two have the given median.
bool crawls(double rate, double median_rate, std::size_t runs) noexcept;

constexpr double kCrawlSeconds = 2;  // of crawling, until a fresh connection takes over

// Seconds that `bytes` take at `rate`; very long when nothing moves.
double seconds_for(std::uint64_t bytes, double rate) noexcept;

}  // namespace fastslm
