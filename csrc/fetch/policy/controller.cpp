#include "fetch/policy/controller.hpp"

#include <algorithm>

namespace fastslm {
namespace {

constexpr double kWorthIt = 1.05;     // what an added connection must bring
constexpr double kNoLoss = 0.97;      // what one fewer may cost
constexpr double kStillRising = 1.2;  // of one step while starting
constexpr unsigned kQuietSteps = 2;   // what was added last may not show in the first of them
constexpr unsigned kFirstLevel = 4;   // waiting for the first byte in parallel costs nothing
constexpr unsigned kGrowth = 4;       // of one step while starting
constexpr double kShortestStep = 0.08;
constexpr double kMeasureS = 1.5;
constexpr double kFirstHoldS = 5;
constexpr double kLongestHoldS = 60;

double step_s(double latency_s) { return std::clamp(1.25 * latency_s, kShortestStep, 1.0); }

}  // namespace

Controller::Controller(unsigned ceiling, bool adaptive)
    : ceiling_(std::clamp(ceiling, 1U, kHighest)),
      adaptive_(adaptive),
      level_(adaptive ? std::min(kFirstLevel, ceiling_) : ceiling_),
      hold_s_(kFirstHoldS) {}

void Controller::begin(Phase phase, const Observation& seen) {
  phase_ = phase;
  since_ = seen;
  measuring_ = false;
  quiet_steps_ = 0;
}

double Controller::rate(const Observation& seen) const {
  const double elapsed = seen.now_s - since_.now_s;
  return elapsed > 0 ? static_cast<double>(seen.bytes - since_.bytes) / elapsed : 0;
}

void Controller::observe(const Observation& seen) {
  seen_ = seen;
  if (!adaptive_) return;
  if (!begun_) {
    begun_ = true;
    begin(Phase::starting, seen);
  }
  switch (phase_) {
    case Phase::starting:
      return start_up(seen);
    case Phase::settling:
      return settle(seen);
    case Phase::holding:
      return hold(seen);
    case Phase::trying:
      return judge(seen);
  }
}

// Each level is measured alone: bytes that answer the requests of the level before say nothing about it.
void Controller::start_up(const Observation& seen) {
  const double elapsed = seen.now_s - since_.now_s;
  const bool answered = seen.latency_s > 0 && (lower_ == 0 || elapsed >= seen.latency_s);
  if (!measuring_ && !answered) {
    if (seen.latency_s == 0) since_ = seen;
    return;
  }
  if (!measuring_) {
    since_ = seen;
    measuring_ = true;
    return;
  }
  if (elapsed < step_s(seen.latency_s)) return;
  const double now_rate = rate(seen);
  const bool rising = now_rate > kStillRising * last_rate_;
  step_rate_[level_] = std::max(step_rate_[level_], now_rate);
  last_rate_ = std::max(last_rate_, now_rate);
  since_ = seen;
  quiet_steps_ = rising ? 0 : quiet_steps_ + 1;
  if (quiet_steps_ >= kQuietSteps) return begin(Phase::settling, seen);
  if (rising && seen.busy >= level_) grow();
}

void Controller::grow() {
  if (level_ == ceiling_) return;
  lower_ = level_;
  level_ = std::min(kGrowth * level_, ceiling_);
  measuring_ = false;
}

// A longer look: one quiet moment must not end the start of a line that could do more.
void Controller::settle(const Observation& seen) {
  if (seen.now_s - since_.now_s < 4 * step_s(seen.latency_s)) return;
  const double settled = rate(seen);
  const bool still_rising = settled > kStillRising * step_rate_[lower_];
  if (still_rising && level_ < ceiling_ && seen.busy >= level_) {
    step_rate_[level_] = last_rate_ = settled;
    begin(Phase::starting, seen);
    return grow();
  }
  if (lower_ != 0 && step_rate_[lower_] * kWorthIt >= settled) {
    level_ = lower_;
    hold_s_ = 0;  // perhaps fewer do as well
    upwards_ = false;
  } else if (level_ == ceiling_) {
    hold_s_ = 2 * kFirstHoldS;  // each brought its part so far
  }
  begin(Phase::holding, seen);
}

// Bytes that wait for work or for the caller say nothing about the line.
void Controller::hold(const Observation& seen) {
  const double elapsed = seen.now_s - since_.now_s;
  if (elapsed < hold_s_) return;
  last_rate_ = rate(seen);
  if (seen.busy < level_ || last_rate_ == 0) return begin(Phase::holding, seen);
  try_next(seen);
}

void Controller::try_next(const Observation& seen) {
  if (level_ == 1) upwards_ = true;
  if (level_ == ceiling_) upwards_ = false;
  if (ceiling_ == 1) return begin(Phase::holding, seen);
  level_before_ = level_;
  const unsigned fewer = level_ <= kFirstLevel ? level_ / 2 : std::max(1U, level_ / 8);
  level_ = upwards_ ? std::min(level_ + std::max(1U, level_ / 4), ceiling_) : level_ - fewer;
  begin(Phase::trying, seen);
}

// A connection that is one too many ends its run first, so fewer take a while to be fewer.
void Controller::judge(const Observation& seen) {
  const double elapsed = seen.now_s - since_.now_s;
  if (!measuring_) {
    if (elapsed < 2 * step_s(seen.latency_s) || (!upwards_ && seen.busy > level_)) return;
    since_ = seen;
    measuring_ = true;
    return;
  }
  if (elapsed < kMeasureS) return;
  const double now_rate = rate(seen);
  if (now_rate >= last_rate_ * (upwards_ ? kWorthIt : kNoLoss)) {
    last_rate_ = now_rate;
    hold_s_ = kFirstHoldS;
    return try_next(seen);
  }
  level_ = level_before_;
  upwards_ = !upwards_;
  hold_s_ = std::min(2 * hold_s_, kLongestHoldS);
  begin(Phase::holding, seen);
}

void Controller::slow_down() {
  level_ = std::max(1U, level_ / 2);
  hold_s_ = 2 * kFirstHoldS;
  begun_ = true;
  begin(Phase::holding, seen_);
}

}  // namespace fastslm
