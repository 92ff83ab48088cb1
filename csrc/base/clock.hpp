// Seconds as numbers: one clock that only goes forward, and the time of day.
#pragma once

#include <chrono>

namespace fastslm {

inline double steady_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double unix_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace fastslm
