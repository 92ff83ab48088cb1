#include <chrono>

#include <fastslm/stop.hpp>

namespace fastslm {

void StopFlag::request() noexcept {
  {
    const std::lock_guard lock(mutex_);
    requested_.store(true, std::memory_order_release);
  }
  changed_.notify_all();
}

bool StopFlag::sleep(double seconds) const {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return requested(); });
}

}  // namespace fastslm
