// How many connections a download may use at a time. Pure: it sees observations and gives a level.
//
// It begins with a few connections, multiplies them while the total rate rises with them, goes back to what
// that rate needs, and from then on tries a few more or fewer now and then. Law: an added connection stays
// only while the total rate rises by at least five percent, and the level never passes the ceiling.
#pragma once

#include <array>
#include <cstdint>

namespace fastslm {

struct Observation {
  double now_s = 0;         // any clock that only goes forward
  std::uint64_t bytes = 0;  // received so far
  unsigned busy = 0;        // transfers under way
  double latency_s = 0;     // from a request to its answer; 0 as long as there was none
};

class Controller {
 public:
  static constexpr unsigned kHighest = 256;

  // With `adaptive` off the level is the ceiling, always.
  Controller(unsigned ceiling, bool adaptive);

  unsigned level() const noexcept { return level_; }

  // To be called several times a second.
  void observe(const Observation& seen);

  // The server asked for fewer requests: half the level, and no more for a while.
  void slow_down();

 private:
  enum class Phase { starting, settling, holding, trying };

  void begin(Phase phase, const Observation& seen);
  void grow();
  void start_up(const Observation& seen);
  void settle(const Observation& seen);
  void hold(const Observation& seen);
  void judge(const Observation& seen);
  void try_next(const Observation& seen);
  double rate(const Observation& seen) const;

  unsigned ceiling_;
  bool adaptive_;
  unsigned level_;
  unsigned lower_ = 0;         // the level before it grew the last time
  unsigned level_before_ = 0;  // a trial
  Phase phase_ = Phase::starting;
  bool begun_ = false;
  bool measuring_ = false;    // the level has taken effect
  unsigned quiet_steps_ = 0;  // in a row, while starting
  bool upwards_ = true;       // direction of the next trial
  double hold_s_;
  double last_rate_ = 0;
  Observation seen_{};                            // the last one
  Observation since_{};                           // of the phase or its measurement
  std::array<double, kHighest + 1> step_rate_{};  // best rate that a level reached while starting
};

}  // namespace fastslm
