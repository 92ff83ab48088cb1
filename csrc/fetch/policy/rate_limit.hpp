// A common rate for all connections: each reserves time for its bytes on one clock, so none starves.
#pragma once

#include <cstdint>
#include <mutex>

namespace fastslm {

class RateLimit {
 public:
  // 0 is no limit.
  explicit RateLimit(std::uint64_t bytes_per_s) : rate_(static_cast<double>(bytes_per_s)) {}

  // Seconds to wait before going on, now that `bytes` were received. An idle moment is not saved up for
  // longer than a tenth of a second. Thread-safe.
  double reserve(std::uint64_t bytes, double now_s);

 private:
  static constexpr double kBurstS = 0.1;

  const double rate_;
  std::mutex mutex_;
  double free_from_s_ = 0;  // all bytes before are paid for
};

}  // namespace fastslm
