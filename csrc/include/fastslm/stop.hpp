// A flag that asks long work to stop, and a sleep that the flag cuts short.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>

namespace fastslm {

class StopFlag {
 public:
  void request() noexcept;
  bool requested() const noexcept { return requested_.load(std::memory_order_acquire); }

  // Sleep for `seconds`; false if the stop was requested meanwhile.
  bool sleep(double seconds) const;

 private:
  std::atomic<bool> requested_{false};
  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
};

}  // namespace fastslm
