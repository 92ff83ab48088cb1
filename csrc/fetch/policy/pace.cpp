#include "fetch/policy/pace.hpp"

#include <algorithm>

namespace fastslm {
namespace {

constexpr double kShortestStepS = 0.3;
constexpr double kCrawl = 0.15;  // of the median
constexpr double kForEver = 1e9;

}  // namespace

void Pace::observe(double now_s, std::uint64_t bytes) {
  const double elapsed = now_s - since_s_;
  if (elapsed < kShortestStepS) return;
  const double fresh = static_cast<double>(bytes - std::min(bytes, bytes_)) / elapsed;
  rate_ = measured_ ? (rate_ + fresh) / 2 : fresh;
  measured_ = true;
  since_s_ = now_s;
  bytes_ = bytes;
}

double Pace::slow_for(double now_s, bool slow) {
  if (!slow) slow_since_s_ = now_s;
  return now_s - slow_since_s_;
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

bool crawls(double rate, double median_rate, std::size_t runs) noexcept {
  return runs >= 3 && median_rate > 0 && rate < kCrawl * median_rate;
}

double seconds_for(std::uint64_t bytes, double rate) noexcept {
  if (bytes == 0) return 0;
  return rate > 0 ? std::min(kForEver, static_cast<double>(bytes) / rate) : kForEver;
}

}  // namespace fastslm
