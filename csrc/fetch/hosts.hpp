// Hosts that asked for a pause: what one connection was told holds for all. Thread-safe.
#pragma once

#include <algorithm>
#include <atomic>
#include <map>
#include <mutex>
#include <string>

namespace fastslm {

class Hosts {
 public:
  // Nobody asks `origin` again before `until_s`.
  void pause(const std::string& origin, double until_s) {
    const std::lock_guard lock(mutex_);
    double& until = paused_until_[origin];
    until = std::max(until, until_s);
    ++pauses_;
  }

  // Seconds until `origin` may be asked.
  double wait_s(const std::string& origin, double now_s) const {
    const std::lock_guard lock(mutex_);
    const auto found = paused_until_.find(origin);
    return found == paused_until_.end() ? 0 : std::max(0.0, found->second - now_s);
  }

  unsigned pauses() const noexcept { return pauses_; }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, double> paused_until_;
  std::atomic<unsigned> pauses_{0};
};

}  // namespace fastslm
